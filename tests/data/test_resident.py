"""Data on the device: each example once in an epoch, evaluation in order, storage as it came."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jaxnn
from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.data.aligned import aligned, fix
from jaxnn.data.durations import steps_of
from tests.registry import real, whole

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.parametrize("n, batch", [(7, 3), (10, 4), (8, 4), (5, 5), (6, 1), (1, 1), (31, 12)])
def test_each_example_once_in_an_epoch(n, batch):
    """Batches are always full and run on across the borders of epochs."""
    data = jaxnn.resident({"inputs": np.arange(n) * 10.0}, batch_size=batch)
    data = data.shuffled(jax.random.key(4))
    steps = jnp.arange(4 * n, dtype=jnp.int32)
    batches = jax.jit(lambda d, s: jax.lax.map(d.batch, s))(data, steps)
    np.testing.assert_array_equal(batches["inputs"], 10 * batches["index"])
    epochs = np.asarray(batches["index"]).reshape(4 * batch, n)
    np.testing.assert_array_equal(np.sort(epochs, 1), np.broadcast_to(np.arange(n), (4 * batch, n)))
    if n > 7:
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
        other = data.shuffled(jax.random.key(5)).batch(steps[0])["index"]
        assert not np.array_equal(other, batches["index"][0])


@pytest.mark.parametrize("n", range(1, 9))
def test_evaluation_reads_every_example_once_in_order(n):
    weights = np.linspace(0.5, 1, n)
    data = jaxnn.resident({"inputs": real(n, 2), "weights": weights}, batch_size=4)
    assert data.num_batches == -(-n // 4)
    batches = [data.in_order(jnp.int32(number)) for number in range(data.num_batches)]
    index = np.concatenate([batch["index"] for batch in batches])
    given = np.concatenate([batch["weights"] for batch in batches])
    np.testing.assert_array_equal(index[:n], np.arange(n))
    np.testing.assert_allclose(given[:n], weights, rtol=1e-6)
    assert len(index) % min(4, n) == 0 and not given[n:].any()
    inputs = np.concatenate([batch["inputs"] for batch in batches])
    np.testing.assert_array_equal(inputs, real(n, 2)[index])


@pytest.mark.parametrize(
    "given, stored",
    [
        (np.float64, np.float32),
        (np.float32, np.float32),
        (np.float16, np.float16),
        (ml_dtypes.bfloat16, ml_dtypes.bfloat16),
        (np.int64, np.int32),
        (np.uint64, np.uint32),
        (np.uint8, np.uint8),
        (np.int16, np.int16),
        (bool, bool),
    ],
)
def test_storage(given, stored):
    array = jaxnn.resident({"inputs": whole(2, 3, 2).astype(given)}, batch_size=1).arrays["inputs"]
    assert isinstance(array, jax.Array) and array.dtype == stored
    np.testing.assert_array_equal(np.asarray(array).astype(np.int32), whole(2, 3, 2))


@pytest.mark.parametrize("data_of", [
    lambda array: jaxnn.resident({"inputs": array}, batch_size=1),
    lambda array: jaxnn.windows(array, 2, batch_size=1),
], ids=["resident", "windows"])  # fmt: skip
@pytest.mark.parametrize("read_only", [False, True])
def test_data_do_not_change_with_the_array_that_they_came_from(data_of, read_only):
    array = aligned((4096,), np.float32)
    array[:] = 0
    view = array[:]
    view.flags.writeable = not read_only
    data = data_of(view)
    array[:] = 7
    assert not np.asarray(data.arrays["inputs"]).any()


def test_the_memory_of_arrays_that_cannot_change_is_shared():
    array = aligned((4096, 3), np.float32)
    array[...] = 7
    fixed = fix(array)
    with pytest.raises(ValueError):
        fixed.flags.writeable = True
    for inputs, shared in (fixed, True), (fixed.astype(np.float64), False):
        held = jaxnn.resident({"inputs": inputs}, batch_size=1).arrays["inputs"]
        assert (held.unsafe_buffer_pointer() == inputs.ctypes.data) == shared


def test_fields_may_be_trees_and_lists():
    inputs = {"left": real(5, 2), "right": {"deep": whole(9, 5)}}
    data = jaxnn.resident({"inputs": inputs, "labels": [0, 1, 0, 1, 0]}, batch_size=2)
    batch = data.batch(jnp.int32(3))
    np.testing.assert_array_equal(batch["inputs"]["left"], inputs["left"][batch["index"]])
    np.testing.assert_array_equal(batch["inputs"]["right"]["deep"], whole(9, 5)[batch["index"]])
    np.testing.assert_array_equal(batch["labels"], np.asarray(batch["index"]) % 2)
    assert "5 examples in batches of 2" in repr(data)


@pytest.mark.parametrize(
    "arrays, error, words",
    [
        ({"labels": real(3)}, InvalidType, "inputs"),
        ({"inputs": real(3), "index": whole(3, 3)}, InvalidType, "index"),
        ({"inputs": real(3), "labels": real(4)}, InvalidValue, "4 examples"),
        ({"inputs": real(0, 2)}, InvalidValue, "empty"),
        ({"inputs": np.array(["a", "b"])}, InvalidType, "does not hold numbers"),
        ({"inputs": np.float32(3)}, InvalidType, "has no axis of examples"),
        (
            {"inputs": np.float32([1, np.nan, np.inf])},
            InvalidValue,
            r"nan at \[1\], 2 of them in 2 of 3",
        ),
        ({"inputs": np.int64([1, 2**40])}, InvalidValue, "out of the range"),
    ],
)
def test_errors(arrays, error, words):
    with pytest.raises(error, match=words):
        jaxnn.resident(arrays, batch_size=2)


@pytest.mark.parametrize(
    "duration, steps",
    [
        (300, 300),
        ("300 steps", 300),
        ("1 epoch", Fraction(1437, 64)),
        ("10 epochs", Fraction(14370, 64)),
        ("0.5 epochs", Fraction(1437, 128)),
        ("50000 examples", Fraction(50000, 64)),
        ("1e3 examples", Fraction(1000, 64)),
        ("5%", 50),
        ("0.01%", Fraction(1, 10)),
    ],
)
def test_durations_are_rounded_up(duration, steps):
    data = jaxnn.resident({"inputs": np.zeros((1437, 1))}, batch_size=64)
    assert steps_of(duration, data, total=1000) == -(-steps // 1)


@pytest.mark.parametrize("duration", [0, -1, "0 epochs", "ten epochs", "10 apples", "", "-1 steps"])
def test_durations_that_are_none(duration):
    data = jaxnn.resident({"inputs": np.zeros((10, 1))}, batch_size=5)
    with pytest.raises(InvalidValue, match="10 epochs"):
        steps_of(duration, data)
