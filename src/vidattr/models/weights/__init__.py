"""Checkpoints, released names of weights, class names."""
