"""One program per framework and problem, run by `benchmarks.speed` in that framework's own environment.

    python FILE TASK JSON

prints one line of JSON: the speed, and the versions that it ran on.
"""
