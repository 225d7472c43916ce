"""KV caches on disk: prefix match, prefill, write-behind, verification, eviction."""
