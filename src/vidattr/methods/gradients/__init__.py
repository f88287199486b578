"""Gradients of the class score with respect to the pixels."""
