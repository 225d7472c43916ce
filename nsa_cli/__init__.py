"""The `nsa` program: what a user touches at the terminal."""

__version__ = "0.1.0"
