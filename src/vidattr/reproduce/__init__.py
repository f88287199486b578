"""Published tables, computed again: what they hold, which cells can be computed here, how the values compare."""
