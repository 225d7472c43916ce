"""Warp-specialized Gluon kernels for Hopper GPUs; imported only if `support` allows it."""
