"""Metrics that run the methods again."""
