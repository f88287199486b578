"""From experiments to stored maps: one folder a run, resumable at any moment."""
