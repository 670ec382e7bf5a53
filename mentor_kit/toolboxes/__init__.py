"""Toolboxes that come with the kit."""
