"""The kernels in Triton for CUDA devices; nothing outside this folder imports triton."""
