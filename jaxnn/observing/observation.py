"""Observations of a run at a step: small arrays, computed by a pure function of its state.

`observe` is one compiled program that reads weights and outputs, and does not change the state: a
run has the same bits with and without a recording. A `Plan` defines what it computes.
`final_predictions` computes the predictions at the end of the run, batch by batch.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.data._resident import Resident
from jaxnn.learning._learner import Learner
from jaxnn.loop._evaluate import in_batches
from jaxnn.metrics import values
from jaxnn.names import named_leaves
from jaxnn.observing.writing import Writing, write
from jaxnn.pictures.arguments import log_softmax
from jaxnn.pictures.diagram import Diagram, biases, wires
from jaxnn.scale.placement import collected
from jaxnn.transforms._capture import capture
from jaxnn.typing import Any, Array, Batch

SHOWN = 16  # the number of examples whose outputs are recorded
WIDEST = 1024  # outputs with more numbers per example are not recorded
ROUNDING = 1e-2  # the tolerance between two programs of a network, for bfloat16
AGREES = "agrees"  # whether the capturing network agrees with the predictions
SIDE = 64  # the number of points along each axis of a map of two inputs

Kind = Literal["classification", "regression", "other"]


@dataclass(frozen=True)
class Filters:
    """The weights of a first layer that can be shown as one image per node."""

    leaf: str  # the name of the weights
    shape: tuple[int, int, int]  # of an image, `(height, width, channels)`
    count: int  # the number of images that are recorded


class Plan(NamedTuple):
    """Defines what `observe` computes; a static argument of `observe`."""

    kind: Kind  # of the outputs
    gradients: bool = False  # whether gradients are observed
    sample: int = 0  # the maximum number of values that are recorded of each array
    captured_paths: tuple[str, ...] = ()  # of the parts whose outputs are captured
    nodes: Diagram | None = None  # the diagram of the network, if it is drawn as nodes
    filters: Filters | None = None  # the weights that are recorded as images, if any
    plot_bounds: tuple[tuple[float, float], ...] = ()  # of a map of two inputs: low, high
    writing: Writing | None = None  # the texts that a language model writes, if any


def observation(
    learner: Learner, plan: Plan, state: Any, batch: Batch, data: Resident
) -> dict[str, Array]:
    """Returns observations of a state: arrays by name, for `jaxnn.storage.recording`.

    Args:
      learner: the learner that trains.
      plan: defines what to compute.
      state: the state to observe.
      batch: the examples to evaluate the network on.
      data: the training data; gradients are computed for a batch of evenly spaced examples.
    """
    seen = {f"metrics/{name}": x for name, x in values(learner.evaluate(state, batch)).items()}
    inputs = inputs_of(learner, state, batch)
    outputs = learner.predict(state, inputs)
    if plan.captured_paths:
        seen |= _captured(learner, plan, state, inputs, outputs)
    if is_one(outputs, batch) and outputs.size <= WIDEST * outputs.shape[0]:
        seen["outputs"] = outputs[:SHOWN]
    if learner.parts is None or not plan.sample:
        return collected(learner, _small(seen))
    params = learner.eval_params(state)
    leaves, filters = named_leaves(params), plan.filters
    seen |= {f"params/{name}": _sampled(plan, leaf) for name, leaf in leaves.items()}
    if plan.gradients:
        gradients = learner.gradients(state, data.take(spread(data, data.batch_size)))
        leaves_of = {} if gradients is None else named_leaves(gradients.values)
        seen |= {f"gradients/{name}": _rms(leaf) for name, leaf in leaves_of.items()}
    if plan.nodes is not None:
        seen |= {f"wires/{leaf}": values for leaf, values in wires(plan.nodes, params).items()}
        seen |= {f"biases/{leaf}": values for leaf, values in biases(plan.nodes, params).items()}
    if filters is not None:
        images = leaves[filters.leaf][..., : filters.count]
        seen["filters"] = jnp.moveaxis(images.reshape(*filters.shape, filters.count), -1, 0)
    if plan.plot_bounds:
        x, y = (jnp.linspace(low, high, SIDE) for low, high in plan.plot_bounds)
        points = jnp.stack(jnp.meshgrid(x, y), -1).reshape(-1, 2)  # row by row
        seen["boundary"] = learner.predict(state, points).reshape(SIDE, SIDE, -1)
    if plan.writing is not None:
        network = learner.parts.network(state.hparams)
        seen |= write(network, plan.writing, params, state.state, inputs, outputs, state.key)
    return collected(learner, _small(seen))


observe = jax.jit(observation, static_argnums=(0, 1))

# On a CPU it compiles in half the time, and runs more slowly.
observe_at_once = jax.jit(
    observation,
    static_argnums=(0, 1),
    compiler_options={"xla_backend_optimization_level": 0},
)


def spread(data: Resident, count: int) -> np.ndarray:
    """Returns the indices of `count` evenly spaced examples."""
    return (np.arange(count) * data.num_examples // count).astype(np.int32)


@jax.jit
def take(data: Resident, index: Any) -> Batch:
    """Returns the examples at the given indices, with weights as in evaluation, 1 by default."""
    batch = data.take(index)
    ones = jnp.ones(jax.tree.leaves(batch["inputs"])[0].shape[0])
    return {**batch, "weights": jnp.asarray(batch.get("weights", ones), jnp.float32)}


def inputs_of(learner: Learner, state: Any, batch: Batch) -> Any:
    """Returns the inputs of the network for a batch, as prepared by the objective."""
    if learner.parts is None or not hasattr(state, "hparams"):
        return batch["inputs"]
    return learner.parts.objective(state.hparams).prepare(None, batch)["inputs"]


def is_one(outputs: Any, batch: Batch) -> bool:
    """Returns whether outputs are a single array with a row for each example."""
    count = jax.tree.leaves(batch["inputs"])[0].shape[0]
    return getattr(outputs, "shape", ())[:1] == (count,)


def _captured(
    learner: Learner, plan: Plan, state: Any, inputs: Any, predicted: Any
) -> dict[str, Array]:
    """Returns samples of the outputs of each part, and the fraction of features that are all 0.

    `AGREES` records whether the outputs of the network equal the predictions up to rounding.
    """
    parts: Any = learner.parts
    network = capture(parts.network(state.hparams), plan.captured_paths)
    (outputs, captured), _ = network.apply(learner.eval_params(state), state.state, inputs)
    if jax.tree.map(jnp.shape, outputs) != jax.tree.map(jnp.shape, predicted):
        return {}
    seen = {}
    for path, output in captured.items():
        if isinstance(output, jax.Array) and output.ndim > 1:
            seen[f"activations/{path}"] = _sampled(plan, output)
            off = jnp.all(output == 0, range(output.ndim - 1))
            seen[f"quiet/{path}"] = jnp.mean(off.astype(jnp.float32))
    close = [
        jnp.allclose(x, y, ROUNDING, ROUNDING * jnp.max(jnp.abs(y)), equal_nan=True)
        for x, y in zip(jax.tree.leaves(outputs), jax.tree.leaves(predicted))
    ]
    return seen | {AGREES: jnp.all(jnp.stack(close))}


def agreeing(arrays: dict[str, Any]) -> dict[str, Any]:
    """Returns the arrays of an observation without captured outputs or texts that do not agree."""
    prefixes = AGREES, f"text/{AGREES}"
    prefixes += () if arrays.get(AGREES, True) else ("activations/", "quiet/")
    prefixes += () if arrays.get(f"text/{AGREES}", True) else ("text",)
    return {name: x for name, x in arrays.items() if not name.startswith(prefixes)}


def _sampled(plan: Plan, array: Array) -> Array:
    """Returns a sample of an array, from the same indices at every step."""
    flat = array.reshape(-1)
    if flat.size <= plan.sample:
        return flat
    # The stride is coprime to the size, so that the sample covers all rows and columns.
    stride = next(n for n in range(flat.size // plan.sample, 0, -1) if math.gcd(n, flat.size) == 1)
    return flat[: plan.sample * stride : stride]


def _rms(array: Array) -> Array:
    return jnp.sqrt(jnp.mean(jnp.square(array.astype(jnp.float32))))


def _small(seen: dict[str, Array]) -> dict[str, Array]:
    """Returns the arrays as float32, since NumPy files do not support bfloat16."""
    return {name: jnp.asarray(value, jnp.float32) for name, value in seen.items()}


EXAMPLES = 8  # the number of best, of worst and of most uncertain examples
MOST = 10_000  # the maximum number of examples
NUMBERS = 1 << 24  # the maximum number of outputs of all examples
CLASSES = 1000  # the maximum number of classes of a confusion matrix
POINTS = 1000  # the maximum number of points in a plot of truth and prediction
LARGEST = 65_536  # the maximum size of a recorded example in bytes


def final_predictions(
    learner: Learner, state: Any, data: Resident, kind: Kind, most: int = MOST
) -> dict[str, np.ndarray]:
    """Returns the final predictions as arrays by name, for `jaxnn.storage.recording`.

    For classification, these are the confusion matrix (up to `CLASSES` classes), and the examples
    with the highest loss, the lowest loss and the smallest margin. For regression, they are the
    true and predicted values (the first of each example), and for tables the best and the worst.

    Args:
      learner: the learner of the run.
      state: the state to predict with.
      data: the examples to predict; examples of weight 0 are left out.
      kind: the kind of the outputs.
      most: the maximum number of examples, which are evenly spaced.
    """
    if kind == "other":
        return {}
    count = min(most, data.num_examples)
    wide = jax.eval_shape(partial(_answers, learner), state, data, spread(data, 1))[0].size
    count = max(1, min(count, NUMBERS // max(1, wide)))
    index = spread(data, count)
    answer = partial(_answers, learner, state, data)
    outputs, labels, weights = in_batches(answer, index, min(data.batch_size, count))
    counted = weights.reshape(count, -1).any(1)
    if kind == "regression":
        truth, predicted = (x.reshape(count, -1)[counted] for x in (labels, outputs))
        pairs = {"truth": truth[:POINTS, 0], "predicted": predicted[:POINTS, 0]}
        if truth.shape[1] > 1 or data.columns is None:
            return pairs
        error = np.abs(truth - predicted)[:, 0]
        orders = {"worst": -error, "best": error}
        fields = {"index": index[counted], "labels": truth[:, 0], "outputs": predicted}
        return pairs | _chosen(data, orders, {**fields, "loss": error})
    counted &= (labels >= 0) & (labels < outputs.shape[-1])
    return _classified(data, index[counted], labels[counted], outputs[counted])


@partial(jax.jit, static_argnums=0)
def _answers(learner: Learner, state: Any, data: Resident, index: Any) -> Any:
    batch = take(data, index)
    outputs = learner.predict(state, inputs_of(learner, state, batch))
    answers = outputs.astype(np.float32), batch["labels"], batch["weights"]
    return collected(learner, answers)


def _classified(
    data: Resident, index: np.ndarray, labels: np.ndarray, outputs: np.ndarray
) -> dict[str, np.ndarray]:
    classes, rows = outputs.shape[-1], np.arange(len(labels))
    logs = log_softmax(outputs)
    loss = -logs[rows, labels]
    arrays: dict[str, np.ndarray] = {}
    if classes <= CLASSES:
        arrays["confusion"] = np.zeros((classes, classes), np.int64)
        np.add.at(arrays["confusion"], (labels, outputs.argmax(-1)), 1)
    likeliest = np.sort(np.exp(logs), -1)
    orders = {"worst": -loss, "best": loss, "uncertain": likeliest[:, -1] - likeliest[:, -2]}
    fields = {"index": index, "labels": labels, "outputs": outputs, "loss": loss}
    return arrays | _chosen(data, orders, fields)


def _chosen(
    data: Resident, orders: dict[str, np.ndarray], fields: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the fields and inputs of the first examples of each order, `{"order/field": ...}`."""
    arrays: dict[str, np.ndarray] = {}
    for name, order in orders.items():
        places = np.argsort(order, kind="stable")[:EXAMPLES]
        arrays |= {f"{name}/{field}": values[places] for field, values in fields.items()}
        more = examples(data, take(data, fields["index"][places]))
        arrays |= {f"{name}/{field}": values for field, values in more.items()}
    return arrays


def examples(data: Resident, batch: Batch) -> dict[str, np.ndarray]:
    """Returns the inputs of a batch on the host; `{}` if they are large or a pytree.

    The inputs of a table are returned as `inputs/numbers` and `inputs/categories`.
    """
    inputs = data.arrays["inputs"]
    if any(x.nbytes > LARGEST * data.num_examples for x in jax.tree.leaves(inputs)):
        return {}
    taken = batch["inputs"]
    if isinstance(taken, dict) and data.columns is not None:
        return {f"inputs/{name}": np.asarray(array) for name, array in taken.items()}
    return {"inputs": np.asarray(taken)} if hasattr(taken, "nbytes") else {}
