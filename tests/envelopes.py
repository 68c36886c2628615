"""Writes and reads a tree as a checkpoint, without a run."""

import jax
import numpy as np

from jaxnn.storage import checkpoints
from jaxnn.storage.checkpoints import newest, read_checkpoint, write_checkpoint
from jaxnn.storage.manifest import leaves_of, read_verified
from tests.trees import numbers

FIELDS = {"rows": 0, "seconds": 0.0, "value": None, "config": {}, "identity": {}, "environment": {}}
TREE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.int32(7)}


def write(folder, tree, step=1, **options):
    arrays = jax.tree.leaves(numbers(tree))
    write_checkpoint(folder, step, leaves_of(tree), arrays, FIELDS, **options)
    return folder / checkpoints.name(step)


def read(path, like):
    return read_checkpoint(path, read_verified(path), like)


def read_newest(folder, like):
    """Reads the newest checkpoint; corruption is an error."""

    def on_corrupt(path, error):
        raise error

    return newest(folder, like, lambda content: None, on_corrupt)
