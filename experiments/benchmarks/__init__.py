"""Benchmarks of jaxnn against the same programs in plain JAX and in other libraries."""

import gc

gc.enable()  # as in the programs that they stand for
