"""A small model from a large one, and how the shipped foundations were made."""
