"""One program per framework, run by `benchmarks.speed` in that framework's own environment.

    python FILE TASK JSON

prints one line of JSON: agent steps per second while learning, and the versions that it ran on.
"""
