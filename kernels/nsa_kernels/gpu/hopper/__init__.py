"""Kernels for Hopper alone, warp-specialised, in Gluon; imported where `support` says so."""
