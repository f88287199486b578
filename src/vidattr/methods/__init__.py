"""One module per attribution method; shared steps are functions in `_ops`."""
