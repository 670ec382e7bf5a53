"""Evaluation: the judge on every asked item, the same for every method."""
