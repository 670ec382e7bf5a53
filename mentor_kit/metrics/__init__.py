"""Numbers about trajectories, and intervals around them."""
