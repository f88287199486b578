"""Work cut into jobs: forecasts, submission to Slurm or to local processes, and the status of what was submitted."""
