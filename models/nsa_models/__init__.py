"""Models equipped with Native Sparse Attention: configuration, weights, tokens, loading."""
