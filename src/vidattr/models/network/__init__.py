"""A resident network as methods and metrics see it, and its parts."""
