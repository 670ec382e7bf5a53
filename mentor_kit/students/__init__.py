"""Students: small language models that learn to use tools. torch and transformers live here and in
training.

Importing this package imports neither. Unsloth, where it is used, must come before transformers and
TRL.
"""
