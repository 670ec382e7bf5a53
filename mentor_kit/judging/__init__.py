"""Is an answer right? The judge, its worker process, and verdicts on trajectories."""
