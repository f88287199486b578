"""One module per network: the architecture or its wrapper, its features and its preprocessing."""
