"""KV caches: in memory, mapped from files, offloaded, over several devices."""
