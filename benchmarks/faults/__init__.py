"""A storm of faults: `python -m benchmarks.faults`."""
