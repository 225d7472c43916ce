"""Named models: registry, download, description."""
