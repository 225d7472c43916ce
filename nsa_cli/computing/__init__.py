"""Arithmetic over the figures of a text: which form a question asks for, its figures, its value."""
