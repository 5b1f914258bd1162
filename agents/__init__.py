"""Agents as thin compositions of the library, and the configs that name them."""
