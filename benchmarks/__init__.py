"""Figures: ablations, reproductions, speed. Results are committed beside the scripts."""
