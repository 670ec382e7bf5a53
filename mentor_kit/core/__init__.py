"""The nouns: problem, toolbox, trajectory, record. No torch, no files of a run."""
