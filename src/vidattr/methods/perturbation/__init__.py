"""Extremal perturbations: masks that keep the class."""
