"""From stored runs to statistics, figures and tables. Reads results/ only; imports neither torch
nor training."""
