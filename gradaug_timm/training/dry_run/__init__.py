"""`--dry-run`: a few steps, and a report of what the run would be."""
