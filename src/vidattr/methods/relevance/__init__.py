"""Methods that share the score among the voxels layer by layer: DeepLIFT and layer-wise relevance propagation."""
