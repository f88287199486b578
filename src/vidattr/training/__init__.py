"""Training of the networks that are explained."""
