"""Small checksummed JSON caches: answers and parsed documents."""
