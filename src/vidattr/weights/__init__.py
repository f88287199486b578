"""Weights of the two small networks that the package brings along, with their training logs."""
