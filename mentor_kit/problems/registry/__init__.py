"""The registry: questions that name a chain of look-ups, in words that a student half knows."""
