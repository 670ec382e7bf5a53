"""Run folders, and what is common to everything that runs."""
