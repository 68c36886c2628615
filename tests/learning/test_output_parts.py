"""The output layer and the loss in parts of a batch: what the whole batch gives, in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import layers
from jaxnn.programs import products
from tests.registry import real, whole
from tests.trees import assert_close

KEY = jax.random.key(0)
ROWS, TIME = 8, 6
INDEX = {"index": np.arange(ROWS, dtype=np.int32)}
WEIGHTS = np.float32([1, 2, 0, 0.5, 1, 1, 0, 3])
TOKENS = INDEX | {"inputs": whole(11, ROWS, TIME + 1), "weights": WEIGHTS}
VECTORS = INDEX | {"inputs": real(ROWS, 5), "labels": whole(3, ROWS), "weights": WEIGHTS}
TAGGED = INDEX | {"inputs": real(ROWS, TIME, 5), "labels": whole(3, ROWS, TIME)}
TAGS = INDEX | {
    "inputs": real(ROWS, TIME, 5),
    "labels": whole(3, ROWS, TIME),
    "lengths": np.int32([3, 6, 1, 4, 6, 2, 5, 6]),
}


def gpt(**options):
    return jaxnn.gpt(11, layers=2, heads=2, features=8, positions=TIME, **options)


def tagger():
    return jaxnn.serial(layers.gru(6), jaxnn.layer_norm(), ("output", jaxnn.linear(3)))


def mean_squares(outputs, batch):
    return jnp.mean(outputs**2, -1)


def with_output(output):
    return jaxnn.serial(jaxnn.linear(5), ("output", output))


def wrapped(change):
    """A network whose inputs a transform changes before its linear layer reads them."""
    layer = jaxnn.linear(3)

    def apply(params, state, inputs, *, key=None):
        return jaxnn.calls.apply_inner(layer, params, state, change(inputs), key)

    return jaxnn.network.wrap(layer, "changed", apply, None)


def prepared():
    """An objective whose batches get a number and a table, which have no row for each example."""
    table = jnp.array([0.5, 1.0, 2.0])

    def loss(outputs, batch):
        return batch["amount"] * batch["table"][batch["labels"]] * jnp.mean(outputs**2, -1)

    def prepare(key, batch):
        return {**batch, "amount": jnp.float32(0.3), "table": table}

    return jaxnn.objectives.objective(loss, prepare=prepare)


CASES = {
    "tied": (gpt(), jaxnn.next_token(label_smoothing=0.1), TOKENS),
    "with dropout": (gpt(dropout=0.2), jaxnn.next_token(), TOKENS),
    "untied": (gpt(tied=False, form="modern"), jaxnn.next_token(), TOKENS),
    "stacked": (gpt(stacked=True, remat="nothing"), jaxnn.next_token(), TOKENS),
    "remat": (jaxnn.remat(gpt()), jaxnn.next_token(), TOKENS),
    "in bfloat16": (jaxnn.mixed_precision(gpt()), jaxnn.next_token(), TOKENS),
    "adapted": (jaxnn.lora(gpt(tied=False), rank=2), jaxnn.next_token(), TOKENS),
    "of vectors": (jaxnn.mlp([7], 3), jaxnn.classification(top_k=2), VECTORS),
    "with a loss of one's own": (jaxnn.mlp([7], 3), mean_squares, VECTORS),
    "with a transform": (with_output(wrapped(lambda x: 2 * x + 1)), mean_squares, VECTORS),
    "repeated": (with_output(jaxnn.repeat(jaxnn.linear(5), 2)), mean_squares, VECTORS),
    "with numbers in the batch": (jaxnn.mlp([7], 3), prepared(), VECTORS),
    "of different lengths": (tagger(), jaxnn.classification(), TAGS),
}


def learner(network, objective, parts=1):
    return jaxnn.learner(network, objective, optax.sgd(0.1), output_parts=parts)


def results(learner, batch):
    """Returns the gradient, and the sums of all metrics in training and in evaluation."""
    state = learner.init(KEY, {}, batch)
    gradients = jax.jit(learner.gradients)(state, batch)
    training = {"loss": gradients.loss, **gradients.metrics}
    evaluation = jax.jit(learner.evaluate)(state, batch)
    sums = [{name: each.sums for name, each in x.items()} for x in (training, evaluation)]
    return gradients.values, *sums


@pytest.mark.parametrize("parts", [2, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
def test_the_results_are_those_of_the_whole_batch(case, parts):
    network, objective, batch = CASES[case]
    expected = results(learner(network, objective), batch)
    tolerance = 1e-2 if case == "in bfloat16" else 1e-5
    assert_close(results(learner(network, objective, parts), batch), expected, tolerance)


def test_a_batch_without_weight_changes_nothing():
    network, objective, batch = CASES["tied"]
    gradient, _, _ = results(learner(network, objective, 2), batch | {"weights": 0 * WEIGHTS})
    assert all(not x.any() for x in jax.tree.leaves(gradient))


def test_parts_of_parts_and_scaled_losses():
    """Around it, the other transforms do what they do around the whole."""
    network, objective, batch = CASES["tied"]
    expected = results(jaxnn.accumulate(learner(network, objective), 2), batch)
    inner = jaxnn.scale_loss(jaxnn.accumulate(learner(network, objective, 2), 2))
    state = inner.init(KEY, {}, batch)
    after, metrics = jax.jit(inner.step)(state, batch)
    moved = jax.tree.map(lambda a, b: (a - b) / 0.1, state.params, after.params)
    assert_close(moved, expected[0], 1e-4)
    assert_close(metrics["loss"].sums, expected[1]["loss"], 1e-6)


def large(parts):
    """The traced step of a model whose logits take most of the memory."""
    network = jaxnn.gpt(20_000, layers=2, heads=2, features=32, positions=64)
    batch = {"inputs": jax.ShapeDtypeStruct((32, 65), jnp.int32)}
    batch |= {"index": jax.ShapeDtypeStruct((32,), jnp.int32)}
    each = learner(network, jaxnn.next_token(), parts)
    state = jax.eval_shape(lambda: each.init(KEY, {}, batch))
    return jax.jit(each.step).trace(state, batch), jax.jit(each.evaluate).trace(state, batch)


def test_nothing_is_computed_twice():
    (step, whole_evaluation), (parts, evaluation) = large(1), large(8)
    assert products(parts.jaxpr.jaxpr) == products(step.jaxpr.jaxpr)
    assert products(evaluation.jaxpr.jaxpr) == products(whole_evaluation.jaxpr.jaxpr)


@pytest.mark.slow
def test_memory_is_that_of_the_logits_of_a_part():
    """32 x 64 x 20,000 logits are 164 MB; training has their gradients as well."""
    for each, parts in zip(large(1), large(8)):
        used, less = (
            x.lower().compile().memory_analysis().temp_size_in_bytes for x in (each, parts)
        )
        assert used > 164e6 and less < 0.3 * used


def post_processed():
    """A network whose outputs are those of its output layer, plus something else."""
    network = jaxnn.serial(jaxnn.linear(3), ("output", jaxnn.linear(3)))

    def apply(params, state, inputs, *, key=None):
        outputs, after = jaxnn.calls.apply_inner(network, params, state, inputs, key)
        return outputs + inputs[:, :3], after

    return jaxnn.network.wrap(network, "skipping", apply, None)


def reshaped(change, back):
    """A network whose output layer reads rows that are not those of the batch."""
    middle = jaxnn.network.stateless(lambda params, x: change(x))
    network = jaxnn.serial(jaxnn.linear(5), ("change", middle), ("output", jaxnn.linear(3)))

    def apply(params, state, inputs, *, key=None):
        outputs, after = jaxnn.calls.apply_inner(network, params, state, inputs, key)
        return back(outputs), after

    return jaxnn.network.wrap(network, "reshaped", apply, None)


def flattened():
    return reshaped(lambda x: x.reshape(-1, 5), lambda x: x.reshape(-1, TIME, 3))


def time_first():
    return reshaped(lambda x: x.swapaxes(0, 1), lambda x: x.swapaxes(0, 1))


def uncertain(outputs, batch):
    return jnp.mean(outputs**2, -1), jax.nn.sigmoid(outputs[:, 0])


def printed(outputs, batch):
    jax.debug.print("{}", outputs[0, 0])
    return jnp.mean(outputs**2, -1)


def alone(params, state, inputs, *, key=None):
    return inputs


def stepped(network, parts, objective=None, batch=VECTORS):
    return lambda: results(learner(network, objective or jaxnn.classification(), parts), batch)


MISTAKES = [
    (stepped(jaxnn.mlp([7], 3), 0), "learner: output_parts is out of range. Got output_parts=0"),
    (stepped(jaxnn.mlp([7], 3), 3), "Got batch_size=8 and output_parts=3; .* or output_parts=1"),
    (
        stepped(jaxnn.serial(jaxnn.linear(4), jaxnn.linear(3)), 2),
        r"does not end with an output layer.* Got a network of kind serial with the parts 0, 1; "
        r".* Write serial\(..., \('output', linear\(n\)\)\), or use accumulate",
    ),
    (stepped(jaxnn.linear(3), 2), "Got a network of kind linear; expected a network in series"),
    (
        stepped(jaxnn.serial(("output", jaxnn.linear(3)), jaxnn.linear(3)), 2),
        "with the parts output, 1",
    ),
    (
        stepped(jaxnn.parallel(jaxnn.linear(3), ("output", jaxnn.linear(3)), combine=sum), 2),
        "does not end with an output layer",
    ),
    (
        stepped(jaxnn.repeat(jaxnn.serial(("output", jaxnn.linear(5))), 2), 2),
        "does not end with an output layer",
    ),
    (stepped(post_processed(), 2), "not those of its output layer. Got outputs that also depend"),
    (
        stepped(
            jaxnn.mlp([7], 3), 2, jaxnn.objectives.batchwise(lambda outputs, batch: outputs.mean())
        ),
        "a loss over a whole batch cannot be computed in parts.* Leave out output_parts",
    ),
    (
        stepped(flattened(), 2, batch=TAGGED),
        r"cannot be split into parts. Got an array of shape \[48, 5\] for 8 examples",
    ),
    (stepped(time_first(), 2, batch=TAGGED), r"shape \[6, 8, 5\] for 8 examples"),
    (
        stepped(time_first(), 2, batch=jax.tree.map(lambda x: x[:TIME], TAGGED)),
        r"Got shapes \(3, 6, 5\) from rows of the batch, and \(6, 3, 5\) from a smaller batch",
    ),
    (
        stepped(
            with_output(jaxnn.parallel(jaxnn.linear(3), jaxnn.linear(3))),
            2,
            jaxnn.objectives.augment(jaxnn.objectives.info_nce(), lambda key, x: x),
        ),
        "a loss over a whole batch cannot be computed in parts. Got a loss that compares",
    ),
    (stepped(jaxnn.mlp([7], 3), 2, uncertain), "the weights of the loss depend on the outputs"),
    (
        stepped(with_output(jaxnn.serial(jaxnn.batch_norm(), jaxnn.linear(3))), 2),
        "the output layer computes statistics of a batch.* as of batch_norm",
    ),
    (stepped(jaxnn.mlp([7], 3), 2, printed), "side effects would occur more than once"),
]


def test_an_apply_that_returns_no_pair_is_named():
    network = jaxnn.mlp([7], 3)
    state = learner(network, mean_squares).init(KEY, {}, VECTORS)
    with pytest.raises(jaxnn.InvalidType, match="apply must return two values"):
        learner(network._replace(apply=alone), mean_squares, 2).gradients(state, VECTORS)


def test_evaluation_takes_the_next_number_of_parts_that_divides():
    network, objective, _ = CASES["of vectors"]
    few = jax.tree.map(lambda x: x[:7], VECTORS)
    state = learner(network, objective).init(KEY, {}, VECTORS)
    expected = learner(network, objective).evaluate(state, few)
    assert_close(learner(network, objective, 4).evaluate(state, few), expected)


@pytest.mark.parametrize(("mistake", "words"), MISTAKES)
def test_mistakes_are_explained(mistake, words):
    with pytest.raises(jaxnn.InvalidValue, match=words):
        mistake()
