"""From what the user types to checked experiments: configs, overrides, identity, run-time options."""
