"""Commands that measure: `python -m benchmarks.<name> --help`."""
