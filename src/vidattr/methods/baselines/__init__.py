"""Maps that do not depend on the network: baselines that every method must beat, in every table beside the methods."""
