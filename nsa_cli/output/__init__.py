"""Events and results on the terminal or as JSON."""
