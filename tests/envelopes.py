"""Writes and reads a tree as a checkpoint, without a run."""

from dataclasses import asdict
from hashlib import sha256

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxnn.storage import checkpoints
from jaxnn.storage.checkpoints import newest, read_checkpoint, write_checkpoint
from jaxnn.storage.manifest import encode_manifest, leaves_of, read_verified
from jaxnn.storage.shards import as_bytes
from tests.small import seal
from tests.trees import numbers

FIELDS = {"rows": 0, "seconds": 0.0, "value": None, "config": {}, "identity": {}, "environment": {}}
TREE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.int32(7)}


def write(folder, tree, step=1, **options):
    arrays = jax.tree.leaves(numbers(tree))
    write_checkpoint(folder, step, leaves_of(tree), arrays, FIELDS, **options)
    return folder / checkpoints.name(step)


def write_format_1(folder, tree, step=1):
    """Writes a checkpoint as older versions did, with Orbax."""
    path, arrays = folder / checkpoints.name(step), jax.tree.leaves(numbers(tree))
    stored = {str(number): array for number, array in enumerate(arrays) if array.size}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_compression=False)) as checkpointer:
        checkpointer.save((path / "arrays").absolute(), args=ocp.args.PyTreeSave(stored))
    digests = [sha256(as_bytes(np.asarray(array))).hexdigest() for array in arrays]
    entries = [asdict(leaf) | {"sha256": x} for leaf, x in zip(leaves_of(tree), digests)]
    (path / "manifest.json").write_bytes(encode_manifest({"step": step, **FIELDS}, entries, path))
    seal(path, format=1)
    return path


def read(path, like):
    return read_checkpoint(path, read_verified(path), like)


def read_newest(folder, like):
    """Reads the newest checkpoint; corruption is an error."""

    def on_corrupt(path, error):
        raise error

    return newest(folder, like, lambda content: None, on_corrupt)
