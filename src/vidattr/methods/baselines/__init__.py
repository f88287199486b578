"""Maps that know nothing of the network: what every method must beat."""
