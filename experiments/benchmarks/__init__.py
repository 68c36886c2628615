"""Benchmarks: what jaxnn costs, measured against the same work written by hand."""

import gc

gc.enable()  # as in the programs that they stand for
