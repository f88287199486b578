"""One module per metric: pure functions and one dataclass."""
