"""`nsa bench`: speed of prefill and of kernels."""
