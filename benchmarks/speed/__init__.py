"""Speed against other frameworks: one file for each table, and `python -m benchmarks.speed` makes them."""
