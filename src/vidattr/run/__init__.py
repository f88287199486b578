"""From overrides to experiments, and from experiments to stored maps: a folder per run, resumable at any moment."""
