"""One module per model: its architecture, its weights, the layer with its features, and its preprocessing."""
