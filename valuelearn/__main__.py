"""`python -m valuelearn` is the command line."""

from valuelearn.cli import main

main()
