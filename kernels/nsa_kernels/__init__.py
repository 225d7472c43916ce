"""Native Sparse Attention over tensors: the specification and its implementations."""
