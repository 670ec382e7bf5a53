"""Declared benchmarks, one small YAML each."""
