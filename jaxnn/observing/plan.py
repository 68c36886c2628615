"""The plan of a recording: what is observed of a run, and when. It precedes any compilation.

A `Plan` names the weights that are drawn and the parts whose outputs are captured, a `Schedule` the
moments and the number of examples. Observing costs a small share of the training, whatever its
length and however large the network.
"""

import inspect
import math
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

MOMENTS = 16  # of a training that are recorded
PROBED = 512  # examples at most, on which the network is evaluated
FILTERS = 16  # nodes whose weights are recorded as images
PARTS = 24  # parts of a network whose outputs are captured
SAMPLE = 1024  # numbers of a layer that stand for all
# Numbers of a frame in all layers' samples, and in the images of weights: some 100 kB each.
SAMPLES, PIXELS = 32_768, 16_384
# What observing may cost: a share of the training's products, or so many, about 0.1 s of a core.
SHARE, FREE = 0.025, 2e9


class BoundNetwork(NamedTuple):
    """The network of a run, with the shapes of its arrays.

    Attributes:
      network: built with the hyper-parameters of the run.
      objective: built with them.
      inputs: the shapes of a batch of one example.
      state: those of the learner's state.
      table: the figures of its parts.
    """

    network: Network
    objective: Objective
    inputs: Any
    state: Any
    table: Table


def bind(training: Training) -> BoundNetwork | None:
    """Returns the network of a run; `None` if the learner or its inputs do not say enough."""
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
        return None  # the network does not take such inputs alone


class Schedule(NamedTuple):
    """When a run is observed, and how closely.

    Attributes:
      moments: the steps, 0 first and the last one last.
      probed: how many examples the network is evaluated on.
      gradients: whether gradients are observed.
      mapped: whether the outputs are mapped over two inputs.
      writing: what a language model writes.
    """

    moments: tuple[int, ...]
    probed: int
    gradients: bool
    mapped: bool
    writing: Writing | None


def schedule(training: Training) -> Schedule:
    """Returns when to observe and how closely, at a small share of the cost of training.

    Moments are dense at the beginning, where a network learns fastest: the number of steps until
    each grows with its square.
    """
    per_step = 2 * products(training.program.jaxpr)
    budget = max(SHARE * training.steps * per_step, FREE)
    gradients = training.learner.parts is not None and MOMENTS * per_step <= budget / 2
    left = budget / MOMENTS - per_step * gradients
    per_example = per_step / training.data.batch_size / 3  # backward takes twice as many
    mapped = _is_plane(training.sample) and SIDE**2 * per_example <= left / 2
    left -= SIDE**2 * per_example * mapped
    writing = _writing(training, left / per_example / 2) if per_example else None
    left -= writing.reads / writing.context * per_example if writing else 0
    probed = int(left / per_example) if per_example else PROBED
    count = MOMENTS if probed >= SHOWN else max(2, MOMENTS * probed // SHOWN)
    steps = {round(training.steps * (i / (count - 1)) ** 2) for i in range(count)}
    probed = min(max(probed, SHOWN), PROBED, probe_data(training).num_examples)
    return Schedule((*sorted(steps),), probed, gradients, mapped, writing)


def plan(
    training: Training, bound: BoundNetwork | None, chosen: Schedule
) -> tuple[Plan, Diagram | None]:
    """Returns what to observe, and how the network is drawn, as far as both are known."""
    data = probe_data(training)
    kind, batch, outputs = kind_of(training, jax.eval_shape(training.trials).state)
    if bound is None:
        return Plan(kind), None
    drawn = _drawn(bound)
    leaves = len(jax.tree.leaves(bound.state.params))
    # Points of a map are no examples: what an objective does to examples it cannot do to them.
    own, default = bound.objective.prepare, Objective._field_defaults["prepare"]
    plain = inspect.unwrap(own) is inspect.unwrap(default)
    small = is_one(outputs, batch) and outputs.size <= FILTERS * outputs.shape[0]
    mapped = chosen.mapped and plain and small
    return Plan(
        kind,
        chosen.gradients,
        min(SAMPLE, max(SAMPLES // max(leaves, 1), 32)),
        _captured_paths(bound),
        drawn if drawn is not None and drawn.layers else None,
        _filters(bound),
        _plot_bounds(data) if mapped else (),
        chosen.writing,
    ), drawn


def kind_of(training: Training, state: Any) -> tuple[Kind, Batch, Any]:
    """Returns what the outputs are for a state of one run, and the shapes of batch and outputs."""
    learner = training.learner
    # A batch of evaluation, for whose shapes all has been traced before.
    batch = jax.eval_shape(lambda data: data.in_order(0), probe_data(training))
    inputs = jax.eval_shape(partial(inputs_of, learner), state, batch)
    outputs = jax.eval_shape(learner.predict, state, inputs)
    kind = _kind(batch, outputs, training.names) if is_one(outputs, batch) else "other"
    return kind, batch, outputs


def probed_part(training: Training) -> str:
    """Returns which part of the data is observed: that of which results are reported.

    That is the test set, or else the first of the evaluations, or else the training data.
    """
    parts = training.evaluations
    return "test" if "test" in parts else next(iter(parts), "train")


def probe_data(training: Training) -> Resident:
    """Returns the data that is observed."""
    return sample(training.evaluations.get(probed_part(training), training.sample))


def probe(data: Resident, count: int) -> Batch:
    """Returns examples from all over the data; the first `SHOWN`, which are recorded, are too."""
    first = np.arange(min(SHOWN, count)) * count // min(SHOWN, count)
    order = np.concatenate([first, np.setdiff1d(np.arange(count), first)])
    return take(data, spread(data, count)[order])


def _captured_paths(bound: BoundNetwork) -> tuple[str, ...]:
    """Returns the paths of activations, or in a network without any those of its layers."""
    rows = [row for row in bound.table.rows if row.part != "network"]
    paths = [row.part for row in rows if row.kind == "activation"]
    return tuple((paths or [row.part for row in rows if row.parameters])[:PARTS])


def _drawn(bound: BoundNetwork) -> Diagram | None:
    try:
        return diagram(bound.network, bound.inputs, (bound.state.params, bound.state.state))
    except Invalid:
        return None


def _filters(bound: BoundNetwork) -> Filters | None:
    """Returns the weights of the first layer that has any, if they make images as the inputs do."""
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


def _writing(training: Training, most: float) -> Writing | None:
    """Returns what a language model writes, at the cost of reading so many examples at most."""
    parts = training.learner.parts
    names = parts.objective(training.hparams).names if parts else ()
    _, batch, logits = kind_of(training, jax.eval_shape(training.trials).state)
    tokens: Any = batch.get("inputs")
    if not names or getattr(tokens, "ndim", 0) != 2 or getattr(logits, "ndim", 0) != 3:
        return None
    whole, context = jnp.issubdtype(tokens.dtype, jnp.integer), logits.shape[1]
    if not whole or context < 4 or logits.shape[2] < len(names):
        return None
    plans = (Writing(texts, context) for texts in range(TEXTS, 0, -1))
    return next((each for each in plans if each.reads / context <= most), None)


def _is_plane(data: Resident) -> bool:
    """Returns whether examples are points of a plane."""
    inputs = data.arrays["inputs"]
    return getattr(inputs, "shape", ())[1:] == (2,) and jnp.issubdtype(inputs.dtype, jnp.floating)


def _plot_bounds(data: Resident) -> tuple[tuple[float, float], ...]:
    """Returns the least and the largest value of two inputs, with a margin."""
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
