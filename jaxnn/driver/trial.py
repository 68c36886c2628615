"""A trial is the state of a training run with its metrics, status and best state, as one pytree.

A report updates these inside a compiled program, so that a member can stop without involving
the host. Stacked trials form a population.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn import metrics as measures
from jaxnn.learning._learner import ORDER, Learner
from jaxnn.loop._evaluate import evaluation
from jaxnn.loop._population import in_blocks, where
from jaxnn.loop._run import initial
from jaxnn.loop.statuses import DIVERGED, EMPTY, RUNNING, STOPPED
from jaxnn.loop.unchanged import filled, split
from jaxnn.metrics.metric import Better
from jaxnn.scale.layout import rows
from jaxnn.streams._block import Block
from jaxnn.typing import Any, Array, Int, Key, PyTree


@dataclass(frozen=True)
class Watch:
    """The metric that determines the best state, and the patience for early stopping.

    Attributes:
      metric: the name of a metric, such as `"test/accuracy"`.
      patience: the number of evaluations without a new best value after which a run stops. `None`
        disables early stopping.
      better: `"lower"` or `"higher"`. The default is the direction of the metric, if it has one.
      margin: the amount by which a value must improve on the best one to count as a new best.
    """

    metric: str
    patience: int | None = None
    better: Better | None = None
    margin: float = 0.0

    @property
    def lower(self) -> bool:
        """Whether lower is better; valid only if `better` is set, as it is in a `Training`."""
        return self.better == "lower"


class Best(NamedTuple):
    """The best evaluation so far.

    Attributes:
      value: the value of the watched metric.
      step: the step of that evaluation; 0 if the metric has been NaN so far.
      waited: the number of evaluations since then.
      state: the learner's state at that step; before the first best, at the last evaluation.
    """

    value: Array
    step: Int[Array, "*members"]
    waited: Int[Array, "*members"]
    state: Any


class Trial(NamedTuple):
    """One training run. For a population, every array has a leading axis of members.

    Attributes:
      state: the learner's state.
      window: sums of the metrics over the steps since the last report.
      order: the key of the data order.
      status: the index of the status in `STATUSES`.
      metrics: the last value of each metric; 0 before the first report.
      best: the best evaluation; `None` unless a metric is watched.
      member: the number of the member in the population.
      parent: the number of the member whose state was copied at the last selection.
    """

    state: Any
    window: PyTree
    order: Key[Array, "*members"]
    status: Int[Array, "*members"]
    metrics: dict[str, Array]
    best: Best | None
    member: Int[Array, "*members"]
    parent: Int[Array, "*members"]


@runtime_checkable
class Select(Protocol):
    """A selection: a pure function of all trials, called after an evaluation."""

    def __call__(self, key: Key[Array, ""], trials: Trial) -> Trial:
        """Returns trials with the same structure, shapes and dtypes."""
        ...


@partial(jax.jit, static_argnums=(0, 1, 2))
def begin(
    learner: Learner,
    watch: Watch | None,
    names: tuple[str, ...],
    window: Any,
    key: Any,
    hparams: Any,
    data: Any,
    slots: Any = None,
    members: Any = None,
    batches: Any = None,
    start: Any = None,
) -> Trial:
    """Returns the initial trial of a run, or the initial trials of the members in some slots.

    Members are initialised one after another, so that each has the bits of its single run, and the
    program compiles quickly even if it draws many random numbers.

    Args:
      learner: the learner to train.
      watch: the metric that determines the best state and early stopping, if any.
      names: the names of all reported metrics.
      window: an empty window of a single run.
      key: the key of the run, or one key for each member.
      hparams: the hyper-parameters of the run, or of all members.
      data: the training data; `None` if `batches` is given.
      slots: the numbers of the members; `None` for a single run.
      members: the number of members; further slots are `EMPTY`, with the state of the last member.
      batches: the first batches of a stream, `[1, ...]`, or `[slots, 1, ...]` for a population.
      start: initial parameters and state for all members; `None` to initialise them.
    """

    def one(key, hparams, member, status, batches):
        order = jax.random.fold_in(key, ORDER)
        first = data.shuffled(order) if batches is None else Block(batches, jnp.int32(0))
        state = initial(learner, key, hparams, first, start)
        best = None
        if watch is not None:
            best = Best(jnp.float32(0), jnp.int32(0), jnp.int32(0), state)
        metrics = {name: jnp.float32(0) for name in names}
        return Trial(state, window, order, status, metrics, best, member, member)

    if slots is None:
        return one(key, hparams, jnp.int32(0), jnp.int8(RUNNING), batches)

    def of_slot(given):
        slot, batches = given
        member = jnp.minimum(slot, members - 1)
        status = jnp.where(slot < members, RUNNING, EMPTY).astype(jnp.int8)
        return one(
            key[member] if key.shape else key,
            rows(jax.tree.map(jnp.asarray, hparams), member),
            slot,
            status,
            batches,
        )

    return lax.map(of_slot, (slots, batches))


def report(
    learner: Learner,
    watch: Watch | None,
    width: int | None,
    trial: Trial,
    parts: dict[str, Any],
    sums: dict[str, Any],
    fixed: tuple[int, ...] = (),
) -> Trial:
    """Dispatches an evaluation and updates a trial; its window and best state are donated.

    Args:
      learner: the learner to evaluate.
      watch: the metric that determines the best state and early stopping, if any.
      width: the number of members to evaluate in parallel; `None` for a single run.
      trial: the trial, or the trials of all members.
      parts: the evaluation data on the device, by name.
      sums: the sums of the metrics over data that were evaluated before, by name.
      fixed: the leaf indices of a single run's state that no step changes.

    Returns:
      The trial with updated metrics, status and best state, and an empty window.
    """
    best, constants = trial.best, []
    fixed = fixed if width is None else ()
    if best is not None and fixed:
        best = best._replace(state=split(best.state, fixed)[0])
        constants = split(trial.state, fixed)[1]
    used, rest = (trial.window, best), (trial.state, trial.status, trial.metrics)
    # An undefined metric, such as R2 of equal labels, is a valid report, not an error.
    with jax.debug_nans(False), jax.debug_infs(False):
        window, (status, metrics, best) = _report(
            learner, watch, width, fixed, used, *rest, parts, sums
        )
    if constants:
        best = best._replace(state=filled(best.state, constants))
    return trial._replace(window=window, status=status, metrics=metrics, best=best)


@partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=4)
def _report(learner, watch, width, fixed, used, state, status, metrics, parts, sums):
    window, best = used
    if fixed and best is not None:
        best = best._replace(state=filled(best.state, split(state, fixed)[1]))
    stops = width is not None or bool(watch and watch.patience)

    def one(carry, state, sums):
        window, status, *known = carry
        # A run that cannot stop early continues after an infinite loss, and reports it.
        known = status if stops else jnp.int8(RUNNING), *known
        known = _known(learner, watch, parts, sums, window, state, *known)
        return jax.tree.map(jnp.zeros_like, window), *known

    def some(carry, *given):
        # Under vmap, `one` is also computed for members that have stopped.
        going = (carry[1] == RUNNING).any()
        return lax.cond(going, jax.vmap(one), lambda carry, *_: carry, carry, *given)

    over = in_blocks(some if (width or 1) > 1 else one, width)
    window, status, metrics, best = over((window, status, metrics, best), state, sums)
    if fixed and best is not None:
        best = best._replace(state=split(best.state, fixed)[0])
    return window, (status, metrics, best)


def _known(learner, watch, parts, sums, window, state, status, metrics, best):
    """Returns status, metrics and best after a report; unchanged unless the run is running."""
    going = status == RUNNING

    def measured():
        values = prefix_names("train", measures.values(window))
        for name, part in parts.items():
            values |= prefix_names(name, evaluation(learner, state, part))
        for name, total in sums.items():
            values |= prefix_names(name, measures.values(total))
        return metrics | {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}

    metrics = lax.cond(going, measured, lambda: metrics)
    names = [*parts, *sums]
    losses = [x for name, x in metrics.items() if name.endswith("loss") and _of(name, names)]
    finite = [jnp.isfinite(x).all() for x in jax.tree.leaves(losses)]
    diverged = going & ~(is_good(state, window) & jnp.all(jnp.array(finite, bool)))
    status = jnp.where(diverged, jnp.int8(DIVERGED), status)
    if watch is not None and _of(watch.metric, ["train", *names]):
        value, sign = metrics[watch.metric], -1.0 if watch.lower else 1.0
        measured, first = going & ~diverged, best.step == 0
        beaten = first & (sign * value > -jnp.inf)
        beaten |= ~first & (sign * value > sign * best.value + watch.margin)
        improved = measured & beaten
        waited = jnp.where(improved, 0, best.waited + going.astype(jnp.int32))
        value, step = where(improved, (value, state.step), (best.value, best.step))
        latest = where(improved | (measured & first), state, best.state)
        if learner.placement is not None:
            latest = learner.placement.constrain(latest)
        best = Best(value, step, waited, latest)
        if watch.patience is not None:
            ended = (status == RUNNING) & (waited >= watch.patience)
            status = jnp.where(ended, jnp.int8(STOPPED), status)
    return status, metrics, best


def is_good(state: Any, window: dict[str, measures.Metric]) -> Array:
    """Returns whether losses and parameters are finite, and no number in the state is NaN.

    Other parts of the state may contain infinity, such as the initial best loss of an optimizer.
    """
    losses = [metric for name, metric in window.items() if name.endswith("loss")]
    good = [measures.has_value(metric) for metric in losses]
    params = {id(x) for x in _floats(getattr(state, "params", ()))}
    # Arrays of one shape, such as weights and their moments, share one reduction.
    bad: dict[tuple[int, ...], list[Array]] = defaultdict(list)
    for x in _floats(state):
        bad[x.shape].append(~jnp.isfinite(x) if id(x) in params else jnp.isnan(x))
    # XLA compiles the sum of floats faster than `any`; it is 0 only if no flag is set.
    good += [jnp.sum(reduce(or_, flags).astype(jnp.float32)) == 0 for flags in bad.values()]
    return jnp.all(jnp.array(good, bool))


def _floats(tree: Any) -> list[Any]:
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]


def _of(name: str, parts: Iterable[str]) -> bool:
    """Returns whether a metric belongs to one of the given datasets."""
    return any(name.startswith(f"{part}/") for part in parts)


def prefix_names(part: str, values: dict[str, Any]) -> dict[str, Any]:
    """Prefixes the names of metrics with the name of the data; the loss comes first."""
    return {f"{part}/{name}": values[name] for name in sorted(values, key=lambda n: n != "loss")}
