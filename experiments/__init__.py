"""Experiments: one file each, read from top to bottom; fork one to make your own."""

import gc
import sys

# Imports make many objects and no garbage: looking for it is a sixth of their time. `command` turns
# the collector on again.
if sys.argv[:1] == ["-m"]:  # `python -m experiments.NAME` is about to import one
    gc.disable()
