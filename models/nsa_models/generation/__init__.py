"""Prefill and decoding, with CUDA graphs on a GPU."""
