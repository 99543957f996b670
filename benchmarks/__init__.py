"""Speed and quality, measured against a baseline in the same run: `python -m benchmarks`."""
