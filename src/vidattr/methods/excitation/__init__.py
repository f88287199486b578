"""Excitation backprop."""
