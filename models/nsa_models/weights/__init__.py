"""Weights: loading, adapters, prepared files, placement on devices."""
