"""Every number on the page of a language model: shown, expected and recomputed, none left out."""

import math

import jax
import numpy as np
import optax
import pytest

import jaxnn
from tests.accounts import Account
from tests.shown import directory, gradients, parts, read, results, softmax, took, watched

pytestmark = pytest.mark.slow

TEXT = "the cat sat on the mat and the dog sat on the log. " * 20
POSITIONS, FEATURES, HIDDEN, HEADS, BATCH = 16, 16, 64, 2, 8
WIDE = (POSITIONS, FEATURES)
BLOCK = "body/block_1/attention/branch"


def test_a_text(tmp_path_factory):
    tokens = jaxnn.Characters(TEXT)
    data, letters = tokens.encode(TEXT), len(tokens)
    model = jaxnn.gpt(letters, layers=1, heads=HEADS, features=FEATURES, positions=POSITIONS)
    held_out = jaxnn.windows(data[800:], POSITIONS + 1, stride=POSITIONS, batch_size=BATCH)
    run = jaxnn.fit(
        jaxnn.learner(model, jaxnn.next_token(vocabulary=tokens.all), optax.adam(0.01)),
        jaxnn.windows(data[:800], POSITIONS + 1, batch_size=BATCH), steps=20, every=5,
        quiet=True, key=jax.random.key(0), evaluate=held_out,
        out=directory(tmp_path_factory, "text"),
    )  # fmt: skip
    run = read(run.out)
    starts = range(0, len(data) - 800 - POSITIONS, POSITIONS)
    windows = np.stack([data[800:][i : i + POSITIONS + 1] for i in starts]).astype(np.int32)
    chances = softmax(jaxnn.load(run.out).predict(windows[:, :-1]).astype(float))
    labels = windows[:, 1:]
    loss = -np.log(np.take_along_axis(chances, labels[..., None], -1)).mean()
    last = run.rows[-1]
    values = {
        "loss": loss,
        "accuracy": (chances.argmax(-1) == labels).mean(),
        "bits_per_byte": loss / math.log(2),
        "perplexity": math.exp(loss),
    }
    for name, value in values.items():
        assert last[f"test/{name}"] == pytest.approx(value, rel=1e-5), name
    frames = [frame.arrays for frame in run.seen.frames]
    names = "metrics/loss", "metrics/perplexity", "metrics/bits_per_byte"
    losses, perplexities, bits = ([float(f[name]) for f in frames] for name in names)
    np.testing.assert_allclose(perplexities, np.exp(losses), rtol=1e-5)
    np.testing.assert_allclose(bits, np.log2(perplexities), rtol=1e-5)
    assert losses[-1] == pytest.approx(loss, rel=1e-5)
    of = Account(run.page)
    of.section("header", [20, values["perplexity"], values["bits_per_byte"], 20])
    panel = watched(run, perplexities, bits, None, [0.0, max(perplexities)])
    of.section("learning", [*panel, *(frame.step for frame in run.seen.frames)])
    of.section("advice", [last["train/loss"], loss, 0.2])
    of.section("numbers", results(run))
    of.section("gradients", gradients(run, leaves()))
    boxes = [POSITIONS, letters, *WIDE, POSITIONS, *WIDE, 1, *WIDE, HEADS, *WIDE, *WIDE, HIDDEN]
    boxes += [POSITIONS, HIDDEN, FEATURES, *WIDE, *WIDE, letters, POSITIONS, letters]
    outside = 2 * 2 * POSITIONS**2 * FEATURES  # queries by keys, and weights by values
    output = ("output", "linear", POSITIONS, letters)
    table = parts(run, [*rows(), output], outside, tied="tokens/weight")
    of.section("network", [*boxes, *table])
    of.section("hyperparameters", ["name", "value", "steps", 20, "batch size", BATCH])
    of.section("speed", took(run, 3 * BATCH * table[-1]))
    of.closed("again")


def leaves():
    """Returns the layers with gradients, by the names that are shown."""
    block = {
        f"attention/{name}": f"attention/{name}" for name in ("key", "output", "query", "value")
    }
    named = {f"body/block 1/{name}": f"{BLOCK}/{path}" for name, path in block.items()}
    for name in ("hidden", "output"):
        named[f"body/block 1/mlp/{name}"] = f"body/block_1/mlp/branch/{name}"
    return {**named, "body/positions": "body/positions", "tokens": "tokens"}


def rows():
    """Returns the parts, their kinds, and the shapes of what they put out for one example."""
    each = [
        (f"{BLOCK}/attention/{n}", "linear", *WIDE) for n in ("query", "key", "value", "output")
    ]
    mlp = "body/block_1/mlp"
    return [
        ("tokens", "embedding", *WIDE),
        ("body/positions", "positions", *WIDE),
        (f"{BLOCK}/norm", "layer_norm", *WIDE),
        *each,
        ("body/block_1/attention/shortcut", "identity", *WIDE),
        (f"{mlp}/branch/norm", "layer_norm", *WIDE),
        (f"{mlp}/branch/hidden", "linear", POSITIONS, HIDDEN),
        (f"{mlp}/branch/activation", "activation", POSITIONS, HIDDEN),
        (f"{mlp}/branch/output", "linear", *WIDE),
        (f"{mlp}/shortcut", "identity", *WIDE),
        ("body/norm", "layer_norm", *WIDE),
    ]
