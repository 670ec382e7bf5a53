"""Our own word problems: structures, tables, source."""
