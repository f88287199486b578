"""From a source on disk to pixels: reading, choosing frames, resizing."""
