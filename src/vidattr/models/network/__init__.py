"""The interface of a network to methods and metrics, and the parts that implement it."""
