"""Sequences of different lengths in training: each teaches what it teaches alone."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import InvalidValue, Masked, layers
from tests.cases import real, whole
from tests.trees import assert_close

LENGTHS = np.int32([3, 5, 1, 4])
TIME = 7
KEY = jax.random.key(0)


def tagger():
    return jaxnn.serial(layers.gru(6), jaxnn.layer_norm(), jaxnn.linear(3))


def gpt():
    return jaxnn.gpt(7, layers=1, heads=2, features=8, positions=TIME)


def pinball(outputs, batch):
    errors = (batch["labels"] - outputs).mean(-1)
    return jnp.maximum(0.9 * errors, -0.1 * errors)


def teacher(inputs):
    network = tagger()
    return network.apply(*network.init(jax.random.key(5), jnp.ones((1, 5, 2))), inputs)[0]


def twice(objective):
    return jaxnn.objectives.augment(objective, lambda key, x: 2.0 * x)


def autoencoder():
    return jaxnn.serial(layers.gru(6), jaxnn.linear(2))


TAGS = whole(3, 4, 5)
BITS = np.float32(whole(2, 4, 5, 3))


# Of each case: the network, the objective, inputs and labels, and whether labels are of places.
CASES = {
    "classes": (lambda: jaxnn.rnn([8], 3), jaxnn.classification(), real(4, 5, 2), whole(3, 4)),
    "classes_of_places": (tagger, jaxnn.classification(), real(4, 5, 2), whole(3, 4, 5)),
    "numbers": (lambda: jaxnn.rnn([8], 1), jaxnn.regression(), real(4, 5, 2), real(4, 1)),
    "numbers_of_places": (tagger, jaxnn.regression(), real(4, 5, 2), real(4, 5, 3)),
    "several_classes_of_places": (tagger, jaxnn.multi_label(), real(4, 5, 2), BITS),
    "distilled": (
        tagger,
        jaxnn.objectives.distill(jaxnn.classification(), teacher),
        real(4, 5, 2),
        TAGS,
    ),
    "augmented": (tagger, twice(jaxnn.classification()), real(4, 5, 2), TAGS),
    "reconstructed": (autoencoder, jaxnn.objectives.reconstruction(), real(4, 5, 2), None),
    "own_of_places": (tagger, pinball, real(4, 5, 2), real(4, 5, 3)),
    "focal_of_places": (tagger, jaxnn.objectives.focal(), real(4, 5, 2), whole(3, 4, 5)),
    "text": (gpt, jaxnn.next_token(), whole(7, 4, 5), None),
}


@cache  # one learner compiles once, however many tests run it
def learner_of(name):
    network, goal, *_ = CASES[name]
    return jaxnn.learner(network(), goal, optax.sgd(0.1))


@cache
def gradients_of(name):
    return jax.jit(learner_of(name).gradients)


def widened(array, rubbish):
    shape = (len(array), TIME - array.shape[1], *array.shape[2:])
    wide = np.concatenate([array, np.zeros(shape, array.dtype)], 1)
    for row, length in zip(wide, LENGTHS):
        row[length:] = rubbish
    return wide


def fields_of(name, rubbish):
    """Returns the padded data, with rubbish in the empty places."""
    _, _, inputs, labels = CASES[name]
    fields = {"inputs": widened(inputs, -5 if inputs.dtype == np.int32 else rubbish)}
    if labels is not None:
        integers = labels.dtype == np.int32
        each = labels.shape[:2] == inputs.shape[:2]
        fields["labels"] = widened(labels, -100 if integers else 1e30) if each else labels
    return fields


def alone(name):
    """Returns the batches of one sequence each."""
    _, _, inputs, labels = CASES[name]
    for i, length in enumerate(LENGTHS):
        if name == "text" and length < 2:
            continue
        batch = {"inputs": inputs[i : i + 1, :length], "index": np.arange(1)}
        if labels is not None:
            each = labels.shape[:2] == inputs.shape[:2]
            batch["labels"] = labels[i : i + 1, :length] if each else labels[i : i + 1]
        yield jax.tree.map(jnp.asarray, batch)


PLACES = {
    "lengths": LENGTHS,
    "mask": np.arange(TIME)[None] < LENGTHS[:, None],
    "segments": (np.arange(TIME)[None] < LENGTHS[:, None]).astype(np.int32),
}


@pytest.mark.parametrize("field", ["lengths", "mask"])
@pytest.mark.parametrize("name", CASES)
def test_a_padded_batch_learns_what_its_sequences_teach(name, field):
    """The loss is the mean over all places (or examples), and so is the gradient."""
    learner = learner_of(name)
    data = jaxnn.resident({**fields_of(name, np.nan), field: PLACES[field]}, batch_size=4)
    batch = data.in_order(0)
    state = jax.jit(lambda: learner.init(KEY, {}, batch))()
    learner.check({}, jax.device_get(data.arrays), state, batch)
    gradients = gradients_of(name)
    found = gradients(state, batch)
    each = [gradients(state, batch) for batch in alone(name)]
    outputs = [jax.eval_shape(learner.predict, state, b["inputs"]) for b in alone_inputs(name)]
    weights = [np.prod(each.shape[:-1]) for each in outputs]
    total = sum(weights)
    loss = sum(w * float(x.loss.value()) for w, x in zip(weights, each)) / total
    assert_close(found.loss.value(), np.float32(loss), 2e-6)
    mean = jax.tree.map(
        lambda *parts: sum(w * x for w, x in zip(weights, parts)) / total,
        *(x.values for x in each),
    )
    assert_close(found.values, mean, 2e-5)
    for metric, value in found.metrics.items():
        if metric in ("accuracy", "mae"):
            wanted = sum(w * float(x.metrics[metric].value()) for w, x in zip(weights, each))
            assert_close(value.value(), np.float32(wanted / total), 2e-6)


def alone_inputs(name):
    return [{**b, "inputs": b["inputs"][:, :-1]} if name == "text" else b for b in alone(name)]


@pytest.mark.parametrize("name", ["classes", "classes_of_places"])
def test_evaluation_and_prediction_over_several_batches(name):
    learner = learner_of(name)
    fields = {**fields_of(name, 0.0), "lengths": LENGTHS}
    data = jaxnn.resident(fields, batch_size=3)
    state = jax.jit(lambda: learner.init(KEY, {}, data.in_order(0)))()
    state, _ = jax.jit(learner.step)(state, data.batch(jnp.int32(0)))
    measured = jaxnn.evaluate(learner, state, data)
    one = jaxnn.evaluate(learner, state, jaxnn.resident(fields, batch_size=4))
    assert measured == pytest.approx(one, rel=2e-6)
    outputs = jaxnn.predict(learner, state, Masked.from_lengths(fields["inputs"], LENGTHS))
    predict = jax.jit(learner.predict)
    for i, batch in enumerate(alone(name)):
        wanted = predict(state, batch["inputs"])
        values = outputs.values[:, : LENGTHS[i]] if isinstance(outputs, Masked) else outputs
        assert_close(values[i : i + 1], np.asarray(wanted), 2e-6)


def test_documents_in_a_row_teach_what_they_teach_alone():
    learner = learner_of("text")
    documents = [whole(7, 1, n)[0] for n in (4, 2, 3, 1)]
    row = np.concatenate(documents)[None]
    segments = np.repeat([1, 2, 3, 4], [4, 2, 3, 1])[None].astype(np.int32)
    network = jaxnn.gpt(7, layers=1, heads=2, features=8, positions=12)
    learner = jaxnn.learner(network, jaxnn.next_token(), optax.sgd(0.1))
    batch = {"inputs": jnp.asarray(row), "segments": jnp.asarray(segments)}
    state = learner.init(KEY, {}, batch)
    gradients = jax.jit(learner.gradients)
    found = gradients(state, batch)
    each = [gradients(state, {"inputs": jnp.asarray(d[None])}) for d in documents[:3]]
    weights = np.array([3, 1, 2]) / 6
    loss = sum(w * x.loss.value() for w, x in zip(weights, each))
    assert_close(found.loss.value(), loss, 2e-6)
    mean = jax.tree.map(
        lambda *x: sum(w * y for w, y in zip(weights, x)), *(x.values for x in each)
    )
    assert_close(found.values, mean, 2e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"lengths": np.int32([3, 5, 1, 8])},
        {"lengths": np.int32([3, 5, -1, 4])},
        {"lengths": np.float32([3, 5, 1.5, 4])},
        {"lengths": np.int32([[3], [5], [1], [4]])},
        {"lengths": LENGTHS, "mask": PLACES["mask"]},
        {"mask": np.full((4, TIME), 0.5)},
        {"mask": np.full((4, TIME), 2)},
        {"mask": np.ones((4, TIME - 1), bool)},
        {"segments": np.full((4, TIME), -1)},
        {"segments": np.int32([[1, 1, 2, 2, 1, 0, 0]] * 4)},
        {"inputs": {"a": real(4, TIME, 2)}, "lengths": LENGTHS},
        {"inputs": real(4), "lengths": LENGTHS},
    ],
    ids=str,
)
def test_places_that_are_not_clear_are_refused_at_the_door(fields):
    for read in (jaxnn.examples, lambda x: jaxnn.resident(x, batch_size=2)):
        with pytest.raises(InvalidValue, match="lengths|mask|segments|sequence"):
            read({"inputs": real(4, TIME, 2), **fields})


def test_all_kinds_of_numbers_say_where_places_are():
    inputs = real(4, TIME, 2)
    inputs[0, 3:] = np.nan
    for mask in (PLACES["mask"], PLACES["segments"], np.float32(PLACES["mask"])):
        read = jaxnn.examples({"inputs": inputs, "mask": mask})
        assert read["mask"].dtype == bool and not read["inputs"][~PLACES["mask"]].any()
    assert jaxnn.examples({"inputs": inputs, "lengths": list(LENGTHS)})["lengths"].dtype == np.int32


def test_a_population_learns_from_lengths():
    data = jaxnn.resident({**fields_of("classes", 0.0), "lengths": LENGTHS}, batch_size=4)
    learner = learner_of("classes")
    settings = {"steps": 3}
    *_, last = jaxnn.train(learner, data, key=jax.random.split(KEY, 2), **settings)
    *_, single = jaxnn.train(learner, data, key=jax.random.split(KEY, 2)[1], **settings)
    assert_close(jax.tree.map(lambda x: x[1], last.state.params), single.state.params, 1e-5)


def test_r2_of_places_is_that_of_all_of_them():
    """Each place is an example, and no place of a row a target of its own."""
    learner = learner_of("numbers_of_places")
    fields = {**fields_of("numbers_of_places", 0.0), "lengths": LENGTHS}
    data = jaxnn.resident(fields, batch_size=4)
    state = learner.init(KEY, {}, data.in_order(0))
    pairs = [(learner.predict(state, b["inputs"])[0], b["labels"][0])
             for b in alone("numbers_of_places")]  # fmt: skip
    guesses, labels = (np.concatenate(side) for side in zip(*pairs))
    wanted = 1 - ((guesses - labels) ** 2).sum(0) / ((labels - labels.mean(0)) ** 2).sum(0)
    assert jaxnn.evaluate(learner, state, data)["r2"] == pytest.approx(wanted.mean(), rel=1e-5)


def test_a_decoder_of_all_places_is_measured_at_those_that_exist():
    """An autoencoder with one row of numbers for a whole sequence, whose outputs have no mask."""
    network = jaxnn.serial(layers.over_time(), jaxnn.linear(2 * TIME), jaxnn.stateless(_rows))
    learner = jaxnn.learner(network, jaxnn.objectives.reconstruction(), optax.sgd(0.1))
    inputs = widened(real(4, 5, 2), 0.0)
    batch = {"inputs": jnp.asarray(inputs), "lengths": jnp.asarray(LENGTHS)}
    state = learner.init(KEY, {}, batch)
    outputs = learner.predict(state, Masked.from_lengths(batch["inputs"], batch["lengths"]))
    errors = np.square(outputs - inputs)[PLACES["mask"]]
    assert_close(learner.gradients(state, batch).loss.value(), np.float32(errors.mean()), 1e-5)


def _codes(params, x):
    return {"reconstruction": x, "mean": x, "log_variance": x}


def _rows(params, x):
    return x.reshape(-1, TIME, 2)


@pytest.mark.parametrize(
    ("network", "goal", "words"),
    [
        (lambda: jaxnn.parallel(layers.gru(3), layers.gru(3)), jaxnn.regression(), "several"),
        (
            lambda: jaxnn.serial(layers.over_time(), jaxnn.stateless(_codes)),
            jaxnn.objectives.elbo(likelihood="gaussian"),
            "elbo: .*padded sequences",
        ),
    ],
    ids=["two_outputs", "elbo"],
)
def test_an_objective_that_does_not_know_masks_refuses(network, goal, words):
    learner = jaxnn.learner(network(), goal, optax.sgd(0.1))
    batch = {"inputs": jnp.ones((4, TIME, 2)), "lengths": jnp.asarray(LENGTHS)}
    batch |= {"labels": jnp.ones((4, TIME, 3)), "index": jnp.arange(4)}
    state = learner.init(KEY, {}, batch)
    with pytest.raises(jaxnn.InvalidType, match=words):
        learner.gradients(state, batch)


@pytest.mark.parametrize("name", CASES)
def test_a_batch_of_empty_sequences_teaches_nothing(name):
    """Some, or all of them: what is computed is finite, also where JAX looks for NaN."""
    learner = learner_of(name)
    fields = {**fields_of(name, 0.0), "lengths": LENGTHS}
    given = jaxnn.resident(fields, batch_size=4).in_order(0)
    state = jax.jit(lambda: learner.init(KEY, {}, given))()
    compute = gradients_of(name)
    for lengths in (np.int32([3, 0, 1, 0]), np.zeros(4, np.int32)):
        batch = {**given, "lengths": jnp.asarray(lengths)}
        with jax.debug_nans(True):
            gradients = compute(state, batch)
        assert all(np.isfinite(x) for x in gradients.loss.sums)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients.values))
        if name not in ("classes", "numbers") and not lengths.any():  # those have outputs anyway
            assert not any(np.any(x) for x in jax.tree.leaves(gradients.values))
