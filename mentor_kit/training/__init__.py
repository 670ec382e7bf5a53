"""Training: SFT and GRPO by TRL. torch, transformers and TRL are imported here and in students
only."""
