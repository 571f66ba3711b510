"""The dry run: a few steps, and a report on settings, cost and time of the run."""
