"""Sequences of different lengths in rows: padded, and packed side by side."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import InvalidType, InvalidValue, Masked
from jaxnn.objectives._places import of_places
from tests.trees import assert_close, assert_same_bits

LENGTHS = (4, 2, 7, 1, 3, 2)
DRAWS = np.random.default_rng(5)
DOCUMENTS = [DRAWS.integers(0, 7, n).astype(np.uint8) for n in LENGTHS]
KEY = jax.random.key(0)


def test_pad_gives_each_sequence_a_row():
    fields = {
        "inputs": [x[:, None].astype(float) + [0.5, 1.5] for x in DOCUMENTS],
        "labels": DOCUMENTS,
        "weights": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "group": np.arange(6),
    }
    padded = jaxnn.pad(fields, 9)
    assert {name: (str(x.dtype), x.shape) for name, x in padded.items()} == {
        "inputs": ("float32", (6, 9, 2)),
        "lengths": ("int32", (6,)),
        "labels": ("uint8", (6, 9)),
        "weights": ("float32", (6,)),
        "group": ("int64", (6,)),
    }
    for i, (document, length) in enumerate(zip(DOCUMENTS, LENGTHS)):
        assert padded["labels"][i].tolist() == [*document, *[0] * (9 - length)]
        assert padded["inputs"][i, :, 0].tolist() == [*(document + 0.5), *[0] * (9 - length)]
    assert padded["lengths"].tolist() == [*LENGTHS]
    assert jaxnn.pad(DOCUMENTS)["inputs"].shape == (6, 7)


def test_pad_takes_empty_sequences_and_nothing_else_without_places():
    padded = jaxnn.pad([[], [1.5], []])
    assert padded["inputs"].tolist() == [[0.0], [1.5], [0.0]]
    assert padded["lengths"].tolist() == [0, 1, 0]
    assert jaxnn.pad([[], []])["inputs"].shape == (2, 1)


def test_what_is_padded_comes_back():
    padded = jaxnn.pad(DOCUMENTS)
    back = Masked.from_lengths(padded["inputs"], padded["lengths"]).sequences()
    assert_same_bits(back, DOCUMENTS)


@pytest.mark.parametrize("length", [7, 8, 30])
def test_pack_puts_each_document_whole_into_few_rows(length):
    packed = jaxnn.pack({"inputs": DOCUMENTS, "labels": [x + 1 for x in DOCUMENTS]}, length)
    assert len(packed["inputs"]) == -(-sum(LENGTHS) // length)
    assert packed["inputs"].dtype == np.uint8 and packed["segments"].dtype == np.int32
    back = Masked.from_segments(packed["inputs"], packed["segments"]).sequences()
    assert_same_bits(back, DOCUMENTS)
    labels = Masked.from_segments(packed["labels"], packed["segments"]).sequences()
    assert_same_bits(labels, [x + 1 for x in DOCUMENTS])
    assert not packed["inputs"][packed["segments"] == 0].any()


def test_many_documents_fill_their_rows():
    """Each in one row, in one piece, and hardly a place is lost."""
    lengths = np.random.default_rng(1).integers(1, 200, 3000)
    packed = jaxnn.pack([np.full(n, i % 250, np.uint8) for i, n in enumerate(lengths)], 256)
    counts = np.bincount(packed["segments"].ravel())[1:]
    assert counts.tolist() == lengths.tolist()
    assert (packed["segments"] > 0).mean() > 0.99


@pytest.mark.parametrize("overlap", [0, 1, 2])
def test_a_long_document_is_cut_into_parts_that_overlap(overlap):
    packed = jaxnn.pack(DOCUMENTS, 3, overlap=overlap)
    for number, document in enumerate(DOCUMENTS, start=1):
        rows = [x[s == number] for x, s in zip(packed["inputs"], packed["segments"])]
        parts = [part for part in rows if len(part)]
        whole = [*parts[0], *(token for part in parts[1:] for token in part[overlap:])]
        assert whole == document.tolist()
    if overlap == 0:
        given = Masked.from_segments(packed["inputs"], packed["segments"])
        assert_same_bits(given.sequences(), DOCUMENTS)


def test_each_token_is_predicted_once_in_parts_that_overlap_by_one():
    packed = jaxnn.pack(DOCUMENTS, 3, overlap=1)
    batch = jaxnn.resident(packed, batch_size=2)
    prepare = of_places(jaxnn.next_token()).prepare
    masks = [prepare(None, batch.in_order(i))["inputs"].mask for i in range(batch.num_batches)]
    assert sum(int(mask.sum()) for mask in masks) >= sum(n - 1 for n in LENGTHS)


def test_packed_documents_teach_what_they_teach_alone():
    """The loss and the gradient of a transformer with learned positions."""
    network = jaxnn.gpt(7, layers=2, heads=2, features=8, positions=8)
    learner = jaxnn.learner(network, jaxnn.next_token(), optax.sgd(0.1))
    gradients = jax.jit(learner.gradients)
    packed, padded = jaxnn.pack(DOCUMENTS, 9), jaxnn.pad(DOCUMENTS, 9)
    results = []
    for fields in (packed, padded):
        data = jaxnn.resident(fields, batch_size=len(fields["inputs"]))
        batch = data.in_order(0)
        state = learner.init(KEY, {}, batch)
        learner.check({}, fields, state, batch)
        results.append(gradients(state, batch))
        evaluated = jaxnn.evaluate(learner, state, data)
        assert evaluated["loss"] == pytest.approx(float(results[-1].loss.value()), rel=1e-6)
    state = learner.init(KEY, {}, {"inputs": jnp.asarray(padded["inputs"])})
    alone = [gradients(state, {"inputs": jnp.asarray(x[None])}) for x in DOCUMENTS if len(x) > 1]
    weights = [len(x) - 1 for x in DOCUMENTS if len(x) > 1]
    loss = sum(w * g.loss.value() for w, g in zip(weights, alone)) / sum(weights)
    mean = jax.tree.map(
        lambda *x: sum(w * y for w, y in zip(weights, x)) / sum(weights),
        *(g.values for g in alone),
    )
    for result in results:
        assert_close(result.loss.value(), loss, 1e-6)
        assert_close(result.values, mean, 1e-5)


def test_packed_and_padded_data_pass_every_door():
    for fields in (jaxnn.pack(DOCUMENTS, 9), jaxnn.pad(DOCUMENTS)):
        assert_same_bits(jaxnn.examples(fields), fields)
        rest, held_out = jaxnn.split(fields, 0.4)
        assert sorted(rest) == sorted(held_out) == sorted(fields)
        assert len(rest["inputs"]) + len(held_out["inputs"]) == len(fields["inputs"])


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: jaxnn.pad([]), InvalidType, "not sequences"),
        (lambda: jaxnn.pad([1, 2]), InvalidType, r"entry of int64 \[\]"),
        (lambda: jaxnn.pad(["ab", "c"]), InvalidType, "Characters"),
        (lambda: jaxnn.pad("ab"), InvalidType, "a str"),
        (lambda: jaxnn.pad({"labels": [[1]]}), InvalidValue, "no inputs"),
        (lambda: jaxnn.pad({"inputs": [[1]], "mask": [[1]]}), InvalidValue, "mask is what pad"),
        (lambda: jaxnn.pad(DOCUMENTS, 6), InvalidValue, "sequence 2 of 7 places.*Cut them"),
        (lambda: jaxnn.pad([np.ones((2, 3)), np.ones((2, 2))]), InvalidValue, "different shapes"),
        (
            lambda: jaxnn.pad({"inputs": [[1, 2], [3]], "labels": [[1], [2, 3]]}),
            InvalidValue,
            "labels do not have an entry for each place.*1 entries for the 2 places of sequence 0",
        ),
        (lambda: jaxnn.pad({"inputs": [[1]], "weights": [[-1.0]]}), InvalidValue, "negative"),
        (lambda: jaxnn.pad({"inputs": [[1], [2]], "labels": [1]}), InvalidValue, "examples"),
        (lambda: jaxnn.pack(DOCUMENTS, 6), InvalidValue, "longer than a row.*overlap=1"),
        (lambda: jaxnn.pack(DOCUMENTS, 6, overlap=6), InvalidValue, "from 0 to 5"),
        (lambda: jaxnn.pack([[1], []], 6), InvalidValue, "document 1 of length 0"),
        (
            lambda: jaxnn.pack({"inputs": [[1], [2, 3]], "labels": [0, 1]}, 6),
            InvalidValue,
            "labels do not have an entry for each place, and a row holds several.*use pad",
        ),
        (
            lambda: jaxnn.pad([np.ma.masked_array([1.0, 2.0], [0, 1])]),
            InvalidValue,
            "masked values",
        ),
    ],
    ids=range(16),
)  # fmt: skip
def test_what_cannot_be_put_into_rows_is_refused(call, error, words):
    with pytest.raises(error, match=f"(?s)pad|pack.*{words}"):
        call()
