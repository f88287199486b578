"""One module per dataset: its index and its annotations."""
