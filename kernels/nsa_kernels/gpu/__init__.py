"""Triton kernels for CUDA devices; only this folder imports triton."""
