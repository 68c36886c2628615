"""Plans the observations of a run and their steps, before anything compiles.

A `Plan` defines the weights that are drawn and the parts whose outputs are captured. A `Schedule`
defines the steps and the number of examples. Observation takes a small fraction of the training
time, regardless of the length of the run and the size of the network.
"""

import inspect
import math
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import Invalid
from jaxnn.data._resident import Resident
from jaxnn.driver.chunks import Training
from jaxnn.names import named_leaves
from jaxnn.network import Network
from jaxnn.objectives import Objective
from jaxnn.observing.observation import (
    NUMBERS,
    SHOWN,
    SIDE,
    Filters,
    Kind,
    Plan,
    inputs_of,
    is_one,
    spread,
    take,
)
from jaxnn.observing.writing import TEXTS, Writing
from jaxnn.pictures.diagram import Diagram, diagram
from jaxnn.programs import products
from jaxnn.streams._sample import sample
from jaxnn.summary import Table, table_of
from jaxnn.typing import Any, Batch

MOMENTS = 16  # the maximum number of steps that are recorded
PROBED = 512  # the maximum number of examples that the network is evaluated on
FILTERS = 16  # the maximum number of nodes whose weights are recorded as images
PARTS = 24  # the maximum number of parts whose outputs are captured
SAMPLE = 1024  # the maximum number of values that are recorded for an array
# The maximum number of values per step in all samples, and in all images; about 100 kB each.
SAMPLES, PIXELS = 32_768, 16_384
# The cost limit: a fraction of the training's operations, or FREE, about 0.1 s on one core.
SHARE, FREE = 0.025, 2e9


class BoundNetwork(NamedTuple):
    """The network and objective of a run, built with its hyper-parameters, and their shapes."""

    network: Network
    objective: Objective
    inputs: Any  # the shapes of the inputs for one example
    state: Any  # the shapes of the learner's state
    table: Table  # the summary of the network


def bind(training: Training) -> BoundNetwork | None:
    """Returns the network of a run; `None` for a custom learner, or if inputs are not accepted."""
    parts = training.learner.parts
    if parts is None:
        return None
    state = jax.eval_shape(training.trials).state
    if not all(hasattr(state, name) for name in ("params", "state", "hparams")):
        return None
    try:
        network = parts.network(training.hparams)
        inputs = jax.eval_shape(
            lambda state, data: inputs_of(training.learner, state, data.take(jnp.arange(1))),
            state, training.sample,
        )  # fmt: skip
        goal = parts.objective(training.hparams)
        return BoundNetwork(
            network, goal, inputs, state, table_of(network, state.params, state.state, inputs)
        )
    except Invalid:
        return None  # the network does not accept these inputs


class Schedule(NamedTuple):
    """The steps at which a run is observed, and the extent of each observation."""

    moments: tuple[int, ...]  # the steps in increasing order, from 0 to the last step
    probed: int  # the number of examples that the network is evaluated on
    gradients: bool  # whether gradients are observed
    mapped: bool  # whether the outputs are recorded as a map of two inputs
    writing: Writing | None  # the texts that a language model writes, if any
    short: bool  # whether training is so short that compiling takes longer than observing


def schedule(training: Training) -> Schedule:
    """Returns a schedule whose cost is a small fraction of the cost of training.

    Moments are denser at the beginning, when a network learns fastest: the step of moment `i` is
    proportional to `i**2`.
    """
    _, batch, outputs = kind_of(training, jax.eval_shape(training.trials).state)
    per_step = 2 * products(training.program.jaxpr)
    budget = max(SHARE * training.steps * per_step, FREE)
    gradients = training.learner.parts is not None and MOMENTS * per_step <= budget / 2
    left = budget / MOMENTS - per_step * gradients
    per_example = per_step / training.data.batch_size / 3  # the backward pass takes twice as many
    mapped = _is_plane(training.sample) and SIDE**2 * per_example <= left / 2
    left -= SIDE**2 * per_example * mapped
    writing = _writing(training, batch, outputs, left / per_example / 2) if per_example else None
    left -= writing.reads / writing.context * per_example if writing else 0
    probed = int(left / per_example) if per_example else PROBED
    count = MOMENTS if probed >= SHOWN else max(2, MOMENTS * probed // SHOWN)
    steps = {round(training.steps * (i / (count - 1)) ** 2) for i in range(count)}
    rows = jax.tree.leaves(batch["inputs"])[0].shape[0]
    size = sum(x.size for x in jax.tree.leaves(outputs)) // rows
    room = max(training.data.batch_size, NUMBERS // max(1, size))  # in memory, for the outputs
    probed = min(max(probed, SHOWN), PROBED, room, probe_data(training).num_examples)
    return Schedule((*sorted(steps),), probed, gradients, mapped, writing, budget == FREE)


def plan(
    training: Training, bound: BoundNetwork | None, chosen: Schedule
) -> tuple[Plan, Diagram | None]:
    """Returns the plan, and the diagram of the network if it can be drawn."""
    data = probe_data(training)
    kind, batch, outputs = kind_of(training, jax.eval_shape(training.trials).state)
    if bound is None:
        return Plan(kind), None
    rows = [row for row in bound.table.rows if row.part != "network"]
    # The activations, or the layers with parameters if there are none.
    paths = [row.part for row in rows if row.kind == "activation"]
    paths = paths or [row.part for row in rows if row.parameters]
    drawn = None
    with suppress(Invalid):
        drawn = diagram(bound.network, bound.inputs, (bound.state.params, bound.state.state))
    leaves = len(jax.tree.leaves(bound.state.params))
    # An objective with a custom `prepare` cannot be applied to the points of a map.
    own, default = bound.objective.prepare, Objective._field_defaults["prepare"]
    plain = inspect.unwrap(own) is inspect.unwrap(default)
    small = is_one(outputs, batch) and outputs.size <= FILTERS * outputs.shape[0]
    mapped = chosen.mapped and plain and small
    return Plan(
        kind,
        chosen.gradients,
        min(SAMPLE, max(SAMPLES // max(leaves, 1), 32)),
        tuple(paths[:PARTS]),
        drawn if drawn is not None and drawn.layers else None,
        _filters(bound),
        _plot_bounds(data) if mapped else (),
        chosen.writing,
    ), drawn


def kind_of(training: Training, state: Any) -> tuple[Kind, Batch, Any]:
    """Returns the kind of the outputs for a single run, and the shapes of batch and outputs."""
    learner = training.learner
    # An evaluation batch, since its shapes have been traced before.
    batch = jax.eval_shape(lambda data: data.in_order(0), probe_data(training))
    inputs = jax.eval_shape(partial(inputs_of, learner), state, batch)
    outputs = jax.eval_shape(learner.predict, state, inputs)
    kind = _kind(batch, outputs, training.names) if is_one(outputs, batch) else "other"
    return kind, batch, outputs


def probed_part(training: Training) -> str:
    """Returns the name of the dataset that is observed.

    This is `test` if there is one, else the first evaluation dataset, else `train`.
    """
    parts = training.evaluations
    return "test" if "test" in parts else next(iter(parts), "train")


def probe_data(training: Training) -> Resident:
    """Returns the dataset that is observed, or a sample of a stream."""
    return sample(training.evaluations.get(probed_part(training), training.sample))


def probe(data: Resident, count: int) -> Batch:
    """Returns `count` evenly spaced examples; the first `SHOWN` of them are evenly spaced too."""
    first = np.arange(min(SHOWN, count)) * count // min(SHOWN, count)
    order = np.concatenate([first, np.setdiff1d(np.arange(count), first)])
    return take(data, spread(data, count)[order])


def _filters(bound: BoundNetwork) -> Filters | None:
    """Returns the weights of the first layer with parameters, if they can be shown as images."""
    shape = getattr(bound.inputs, "shape", ())[1:]
    first = next((row.part for row in bound.table.rows if row.parameters), "")
    leaf = f"{first}/weight".strip("/")
    weight = named_leaves(bound.state.params).get(leaf)
    if weight is None or len(shape) not in (2, 3):
        return None
    image: Any = (*shape, 1)[:3]
    if weight.ndim == 4 and weight.shape[2] in (1, 3) and min(weight.shape[:2]) > 1:
        image = weight.shape[:3]
    elif weight.ndim != 2 or weight.shape[0] != math.prod(image) or image[2] not in (1, 3):
        return None
    count = min(FILTERS, weight.shape[-1], PIXELS // math.prod(image))
    return Filters(leaf, image, count) if count else None


def _writing(training: Training, batch: Batch, logits: Any, most: float) -> Writing | None:
    """Returns the largest `Writing` that costs at most `most` examples; `None` if impossible."""
    parts = training.learner.parts
    names = parts.objective(training.hparams).names if parts else ()
    if not names:
        return None
    tokens: Any = batch.get("inputs")
    if getattr(tokens, "ndim", 0) != 2 or getattr(logits, "ndim", 0) != 3:
        return None
    whole, context = jnp.issubdtype(tokens.dtype, jnp.integer), logits.shape[1]
    if not whole or context < 4 or logits.shape[2] < len(names):
        return None
    plans = (Writing(texts, context) for texts in range(TEXTS, 0, -1))
    return next((each for each in plans if each.reads / context <= most), None)


def _is_plane(data: Resident) -> bool:
    """Returns whether inputs are points in a plane, `[examples, 2]`."""
    inputs = data.arrays["inputs"]
    return getattr(inputs, "shape", ())[1:] == (2,) and jnp.issubdtype(inputs.dtype, jnp.floating)


def _plot_bounds(data: Resident) -> tuple[tuple[float, float], ...]:
    """Returns the minimum and maximum of two inputs, with a margin."""
    inputs = np.asarray(data.arrays["inputs"], np.float32)
    low, high = inputs.min(0), inputs.max(0)
    margin = 0.1 * np.maximum(high - low, 1e-6)
    return tuple((float(a), float(b)) for a, b in zip(low - margin, high + margin))


def _kind(batch: Batch, outputs: Any, metrics: list[str]) -> Kind:
    labels: Any = batch.get("labels")
    if not hasattr(labels, "ndim"):
        return "other"
    whole = jnp.issubdtype(labels.dtype, jnp.integer)
    has_accuracy = any(name.endswith("/accuracy") for name in metrics)
    if whole and labels.ndim == 1 and outputs.ndim == 2 and has_accuracy:
        return "classification" if outputs.shape[1] > 1 else "other"
    same = outputs.shape[1:] in (labels.shape[1:], (*labels.shape[1:], 1))
    return "regression" if not whole and same and labels.ndim <= 2 else "other"
