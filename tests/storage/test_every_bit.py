"""What is saved comes back to the last bit, or is refused when it is given."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import InvalidType
from jaxnn.storage import checkpoints, manifest
from jaxnn.storage.manifest import CorruptCheckpoint
from tests.envelopes import TREE, read, read_newest, write, write_format_1
from tests.trees import assert_same_bits

FLOATS = [0.0, -0.0, 1.5, math.inf, -math.inf, math.nan]
# Numbers that are none, with and without a sign, and with a message inside.
NANS = np.array([0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000001], np.uint32).view(np.float32)


def of_dtype(name):
    dtype = np.dtype(name)
    if dtype.kind == "c":
        return np.array([complex(-0.0, math.nan), 1j]).astype(dtype)
    floats = jnp.issubdtype(dtype, jnp.floating)
    return np.array(FLOATS if floats else [0, 1, 0, 1, 1, 1]).astype(dtype).reshape(2, 3)


def optimizers():
    params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
    adam = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(0.1, 10))
    )
    masked = optax.masked(optax.adam(0.1), {"w": True, "b": False})
    return {
        "nested": optax.apply_if_finite(adam, 3).init(params),
        "masked": masked.init(params),
        "many": optax.MultiSteps(optax.lion(0.1), 4).init(params),
        "none": optax.sgd(0.1).init(params),
        "injected": optax.inject_hyperparams(optax.sgd)(0.1, momentum=0.9).init(params),
    }


TREES = {
    "every dtype": lambda: {name: of_dtype(name) for name in sorted(manifest._DTYPES)},
    "scalars of every dtype": lambda: {
        name: of_dtype(name).reshape(-1)[0] for name in sorted(manifest._DTYPES)
    },
    "NaN with a message": lambda: {"f": NANS, "b": NANS.view(jnp.bfloat16)},
    "nothing": lambda: {"a": np.zeros((0,)), "b": np.zeros((3, 0, 2), np.int8), "c": np.ones(1)},
    "one axis": lambda: [np.ones((1, 1, 1)), np.ones(1), np.float32(1)],
    "turned": lambda: {"a": np.arange(12.0).reshape(3, 4).T, "b": np.arange(12)[::-2]},
    "devices": lambda: jax.device_put(jnp.arange(8.0), jax.devices()[-1]),
    "keys": lambda: {impl: jax.random.key(3, impl=impl) for impl in manifest._KEYS}
    | {"many": jax.random.split(jax.random.key(4), (3, 1))},
    "optimizers": optimizers,
}  # fmt: skip


@pytest.mark.parametrize("name", TREES)
def test_every_bit_comes_back(name, tmp_path):
    tree = TREES[name]()
    like = jax.eval_shape(lambda: tree) if name in ("keys", "optimizers") else tree
    restored = read(write(tmp_path, tree), like)
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    assert_same_bits(restored, tree)


def test_every_bit_of_an_older_checkpoint_comes_back(tmp_path):
    tree = {f"{n}": np.full((n, 3), n, np.float32) for n in range(14)}
    tree |= {name: of_dtype(name) for name in sorted(manifest._DTYPES)}
    assert_same_bits(read(write_format_1(tmp_path, tree), tree), tree)


@pytest.mark.parametrize("dtype", ["float8_e4m3b11fnuz", "uint4", "int2"])
def test_what_is_not_kept_is_refused_at_the_start(dtype, tmp_path):
    like = {"a": {"b": jax.ShapeDtypeStruct((3,), jnp.dtype(dtype))}}
    with pytest.raises(InvalidType, match=rf"a/b has a dtype that .* Got {dtype}\[3\]"):
        read_newest(tmp_path, like)


def test_what_could_not_be_read_is_not_written(tmp_path):
    write(tmp_path, TREE)
    with pytest.raises(CorruptCheckpoint, match="a has the dtype float8_e4m3b11fnuz"):
        write(tmp_path, {"a": np.ones(3, jnp.float8_e4m3b11fnuz)}, 2)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoints.name(1)]
