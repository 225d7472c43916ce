"""Configurations: NSA settings, model families, rotary embeddings, YaRN."""
