"""Planning: finds which channels of which layers must be kept or dropped together (see ../README.md)."""
