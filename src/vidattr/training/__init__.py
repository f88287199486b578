"""Training: recipes, the training loop, and checkpoints from which a killed training continues."""
