"""What a run is built from: network, data, task, optimizer."""
