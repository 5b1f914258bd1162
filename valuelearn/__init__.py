"""Value heads, the agents' building blocks, and one compiled training loop, in JAX."""

__version__ = "0.1.0"
