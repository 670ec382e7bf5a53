"""Worked solutions as verified tool calls."""
