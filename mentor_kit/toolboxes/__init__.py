"""The toolboxes that come with the kit, by name."""

BUILT_IN = {"arithmetic": "mentor_kit.toolboxes.arithmetic:ARITHMETIC", "search": "mentor_kit.toolboxes.search:SEARCH"}
