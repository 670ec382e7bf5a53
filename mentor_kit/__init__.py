"""MENTOR kit: distil tool use from a teacher into a small language model by reinforcement learning.

Importing the package is cheap: torch and transformers are imported only by `mentor_kit.students`
and `mentor_kit.training`.
"""

__version__ = "0.1.0"
