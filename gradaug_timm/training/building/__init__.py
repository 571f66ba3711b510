"""Building the parts of a run: network, data, task, optimizer."""
