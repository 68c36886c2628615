"""What a language model writes at each moment is what it would write if it read everything anew."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.observing.observation import agreeing
from jaxnn.observing.writing import DRAWS, TEMPERATURE, TOKENS, Writing, spelled, write
from jaxnn.storage import recording

CONTEXT = 8
NETWORK = jaxnn.gpt(5, layers=1, heads=2, features=8, positions=CONTEXT)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def known():
    inputs = jnp.asarray(np.random.default_rng(0).integers(0, 5, (3, CONTEXT)), jnp.int32)
    params, state = NETWORK.init(jax.random.key(0), inputs)
    params = jax.tree.map(lambda x: 5 * x, params)  # of an opinion
    return params, state, inputs, NETWORK.apply(params, state, inputs)[0]


def by_hand(params, state, inputs):
    """Draws each token after the network has read all tokens since it began anew."""
    plan = Writing(1, CONTEXT)
    apply = jax.jit(lambda tokens: NETWORK.apply(params, state, tokens)[0])
    row, written = inputs[0, : plan.known].tolist(), []
    key = jax.random.fold_in(KEY, DRAWS)
    for number in range(plan.pieces):
        row = row[-plan.known :]
        for place in range(plan.piece):
            padded = jnp.asarray([row + [0] * (CONTEXT - len(row))])  # what is behind is not read
            logits = apply(padded)[0, len(row) - 1]
            draw = jax.random.fold_in(jax.random.fold_in(key, number), place)
            row.append(int(jax.random.categorical(draw, logits / TEMPERATURE)))
            written.append(row[-1])
    return written[:TOKENS]


def test_a_text_is_that_of_a_network_that_reads_everything_anew(known):
    params, state, inputs, outputs = known
    seen = write(NETWORK, Writing(1, CONTEXT), params, state, inputs, outputs, KEY)
    assert seen["text"].shape == (1, TOKENS) and bool(seen["text/agrees"])
    assert seen["text"][0].tolist() == by_hand(params, state, inputs)


def test_what_a_network_writes_that_reads_otherwise_is_not_recorded(known):
    params, state, inputs, outputs = known
    seen = write(NETWORK, Writing(1, CONTEXT), params, state, inputs, outputs[:, ::-1], KEY)
    assert not bool(seen["text/agrees"])
    assert agreeing(jax.device_get(seen)) == {}
    lost = {"text": np.zeros(3), "text/agrees": np.float32(1)}
    assert [*agreeing(lost)] == ["text"]


def test_tokens_that_stand_for_nothing_are_shown_as_such():
    assert spelled([[0, 1, 2, 7]], ("a", "bc")).tolist() == ["abc\ufffd\ufffd"]


def fit(out, vocabulary, network=None, steps=6):
    text = "the cat sat on the mat. " * 20
    tokens = jaxnn.Characters(text)
    network = network or jaxnn.gpt(len(tokens), layers=1, heads=2, features=8, positions=CONTEXT)
    objective = jaxnn.next_token(vocabulary=vocabulary(tokens))
    return jaxnn.fit(
        jaxnn.learner(network, objective, optax.adam(0.01)),
        jaxnn.windows(tokens.encode(text), CONTEXT + 1, batch_size=8), steps=steps, every=3,
        quiet=True, key=jax.random.key(0), out=jaxnn.Directory(out, report=True),
    )  # fmt: skip


def test_a_run_that_knows_its_vocabulary_records_what_it_writes(tmp_path):
    run = fit(tmp_path / "run", lambda tokens: tokens.all)
    seen = recording.read(run.out)
    begins = seen.probe["text"].tolist()
    assert len(begins) in (1, 2) and all(len(each) == CONTEXT // 2 for each in begins)
    assert all(each in "the cat sat on the mat. " * 20 for each in begins)
    for frame in seen.frames:
        assert [len(each) for each in frame.arrays["text"].tolist()] == [TOKENS] * len(begins)
    assert seen.frames[0].arrays["text"].tolist() != seen.frames[-1].arrays["text"].tolist()
    # What the last state writes again is what was recorded of it.
    tokens = jaxnn.Characters("the cat sat on the mat. ")
    inputs = jnp.asarray([tokens.encode(begin) for begin in begins], jnp.int32)
    inputs = jnp.pad(inputs, ((0, 0), (0, CONTEXT - inputs.shape[1])))
    network = run.learner.parts.network({})
    outputs = network.apply(run.state.params, run.state.state, inputs)[0]
    plan = Writing(len(begins), CONTEXT)
    again = write(network, plan, run.state.params, run.state.state, inputs, outputs, run.state.key)
    assert (
        spelled(again["text"], tuple(tokens.all)).tolist()
        == seen.frames[-1].arrays["text"].tolist()
    )


def test_without_a_vocabulary_nothing_is_written(tmp_path):
    run = fit(tmp_path / "run", lambda tokens: ())
    seen = recording.read(run.out)
    assert "text" not in seen.probe and all("text" not in frame.arrays for frame in seen.frames)


def test_a_vocabulary_that_is_larger_than_the_network_is_refused(tmp_path):
    with pytest.raises(jaxnn.checks.InvalidValue, match="an output for each token"):
        fit(tmp_path / "run", lambda tokens: [str(n) for n in range(99)])
