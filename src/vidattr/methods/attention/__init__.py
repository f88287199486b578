"""Attention weights of transformers."""
