"""What the clips of `dataset=planted` are drawn from: sprites, backgrounds, photographs, and a scene per family."""
