"""What a run writes beside its checkpoints."""
