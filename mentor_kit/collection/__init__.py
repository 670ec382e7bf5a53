"""Collection: a teacher asked about every problem, everything stored with its reason."""
