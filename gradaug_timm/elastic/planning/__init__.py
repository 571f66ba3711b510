"""How a plan is found: which channels of which layers must be kept or dropped together."""
