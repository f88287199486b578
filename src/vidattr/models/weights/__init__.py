"""Reading checkpoints, filling networks with them, and naming the classes."""
