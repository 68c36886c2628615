"""A stream has the batches of the same examples in memory, from whatever source it reads them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_equal

from jaxnn.checks import Caution, InvalidType, InvalidValue
from jaxnn.data import resident
from jaxnn.streams import Stream, concatenate, mix, stream
from jaxnn.streams.threads import Threads
from tests.streams.sources import examples, fields, source  # noqa: F401 (a fixture)

KEY = jax.random.fold_in(jax.random.key(7), 2)


@pytest.mark.parametrize("step", [0, 3, 10**9])
def test_batches_are_those_of_resident_data(source, step):  # noqa: F811
    held, arrays = source
    data = stream(held, batch_size=4, block=3).shuffled(KEY)
    kept = resident(arrays, batch_size=4).shuffled(KEY)
    assert data.num_examples == kept.num_examples and data.num_batches == kept.num_batches
    block = data.read(step)
    for number in range(step, step + 3):
        assert_trees_all_equal(block.batch(number), kept.batch(jnp.int32(number)))


def test_batches_in_order_are_those_of_resident_data(source):  # noqa: F811
    held, arrays = source
    for batch_size in (4, 100):
        data, kept = (
            stream(held, batch_size=batch_size, block=2),
            resident(arrays, batch_size=batch_size),
        )
        for first in range(0, data.num_batches, 2):
            block = data.read_in_order(first)
            for number in range(first, min(first + 2, data.num_batches)):
                assert_trees_all_equal(block.in_order(number), kept.in_order(number))


def test_examples_and_single_ones_are_those_of_the_arrays(source):  # noqa: F811
    held, arrays = source
    one = held[len(held) - 1]
    assert_trees_all_equal(
        {k: np.asarray(one[k]) for k in arrays}, jax.tree.map(lambda x: x[-1], arrays)
    )
    shown = stream(held, batch_size=1).take(np.arange(len(held)))
    assert_trees_all_equal({k: shown[k] for k in arrays}, arrays)


def test_a_fingerprint_changes_with_the_files_and_not_with_where_they_are(source, tmp_path):  # noqa: F811
    held, _ = source
    data = stream(held, batch_size=1)
    assert isinstance(data, Stream) and data.fingerprint() == data.fingerprint()
    assert str(tmp_path) not in data.fingerprint()


class Random(list):
    """Augments at random in every read, as many datasets of PyTorch do."""

    def __getitem__(self, index):
        example = super().__getitem__(index)
        return {**example, "inputs": example["inputs"] + np.random.default_rng().normal()}


def test_a_source_that_is_random_is_warned_of_and_resumes():
    rows = Random(examples(fields()))
    with pytest.warns(Caution, match="of the Random twice gives different results.*read="):
        first = stream(rows, batch_size=4).fingerprint()
    with pytest.warns(Caution):
        assert stream(rows, batch_size=4).fingerprint() == first


def test_fields_that_are_objects_have_a_fingerprint():
    def made(word):
        return stream([{"inputs": 1.0, "words": [word, None]}], batch_size=1).fingerprint()

    assert made("a") == made("".join(["a"])) != made("b")


def test_what_is_drawn_depends_on_seed_example_and_epoch_alone():
    def read(example, random):
        return {**example, "inputs": example["inputs"] + random.normal(size=3).astype(np.float32)}

    rows = examples(fields())
    one = stream(rows, batch_size=4, block=12, read=read).shuffled(KEY).read(0)
    parts = stream(rows, batch_size=4, block=3, workers=1, read=read).shuffled(KEY)
    for number in range(12):
        again = parts.read(number // 3 * 3)
        assert_trees_all_equal(one.batch(number), again.batch(number))
    index, inputs = one.arrays["index"].ravel(), one.arrays["inputs"].reshape(-1, 3)
    first = index[0]
    _, second = np.flatnonzero(index == first)[:2]
    assert not np.array_equal(inputs[0], inputs[second]), "another epoch draws anew"
    other = stream(rows, batch_size=4, read=read).shuffled(jax.random.key(8)).read(0)
    place = np.flatnonzero(other.arrays["index"].ravel() == first)[0]
    assert not np.array_equal(inputs[0], other.arrays["inputs"].reshape(-1, 3)[place])


def test_mixed_sources_have_their_shares():
    low, high = [{"inputs": np.float32(0)}] * 30, [{"inputs": np.float32(1)}] * 50
    mixed = mix([low, high], [0.3, 0.7])
    drawn = mixed.rows(np.arange(len(mixed)))["inputs"]
    for count in range(1, len(drawn)):
        assert abs(drawn[:count].sum() - 0.7 * count) <= 1
    assert len(mixed) == 100, "until the slower one is used up"


class Broken:
    """A source whose example 5 cannot be read."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index == 5:
            raise OSError("bad sector")
        return {"inputs": np.float32([index]), "labels": np.int32(1)}


def test_an_example_that_cannot_be_read_is_named_or_skipped():
    with pytest.raises(InvalidValue, match="example 5 cannot be read.*bad sector.*on_error='skip'"):
        stream(Broken(), batch_size=10).read(0)
    batch = stream(Broken(), batch_size=10, block=1, on_error="skip").read(0).batch(0)
    np.testing.assert_array_equal(batch["weights"], (batch["index"] != 5).astype(np.float32))
    assert batch["inputs"][list(batch["index"]).index(5)] == 0


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: stream(iter([]), batch_size=1), InvalidType, "no random access.*jaxnn pack"),
        (lambda: stream({"inputs": [1.0]}, batch_size=1), InvalidType, "use resident"),
        (lambda: stream([], batch_size=1), InvalidValue, "empty"),
        (lambda: stream(examples(fields()), batch_size=0), InvalidValue, "batch_size"),
        (lambda: stream([{"inputs": "a"}], batch_size=1).read(0), InvalidType, "numbers"),
        (
            lambda: stream([{"inputs": [1.0]}, {"inputs": [1.0, 2.0]}], batch_size=2).read(0),
            InvalidValue,
            "different shapes",
        ),
        (
            lambda: stream([{"inputs": [1.0]}, {"other": [1.0]}], batch_size=2).read(0),
            InvalidValue,
            "different fields",
        ),
        (
            lambda: stream([{"inputs": [np.nan]}], batch_size=1).read(0),
            InvalidValue,
            "not finite",
        ),
        (lambda: mix([[1], [2]], [1.0]), InvalidValue, "weights"),
        (lambda: concatenate([[]]), InvalidValue, "empty"),
    ],
)
def test_what_cannot_be_streamed_is_said(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_rows_of_all_processes_are_the_global_batch(processes):
    data, words = stream(examples(fields()), batch_size=8, block=3), np.array([3, 4], np.uint32)
    with Threads(2, "test") as pool:
        whole, _ = data.training(pool, words, 7)
        ordered, _ = data.evaluation(pool, 0)
        for rows in np.split(np.arange(8), processes):
            part, _ = data.training(pool, words, 7, rows)
            assert_trees_all_equal(part, jax.tree.map(lambda x: x[:, rows], whole))
            part, _ = data.evaluation(pool, 0, rows)
            assert_trees_all_equal(part, jax.tree.map(lambda x: x[:, rows], ordered))
