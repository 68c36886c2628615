"""A learner is how parameters change: a few pure functions, two of which make a training step.

`gradients` compares predictions with known outcomes, `update` adjusts the weights, and
`learner.step(state, batch)` is the one after the other. `learner(network, objective, optimizer)`
makes the usual learner. What does not fit it (two optimizers, a GAN, reinforcement learning) is the
same functions written by hand; whatever trains, sweeps, saves or resumes a learner asks for nothing
else. Where a step is not a gradient and an update, `update` is the whole step:

    >>> import jax.numpy as jnp
    >>> from jaxnn.metrics import mean
    >>> def update(state, batch, gradients):
    ...     after = state._replace(step=state.step + 1, params=batch["inputs"].mean(0))
    ...     return after, evaluate(after, batch)
    >>> def evaluate(state, batch):
    ...     distances = jnp.linalg.norm(batch["inputs"] - predict(state, None), axis=-1)
    ...     return {"distance": mean(distances, jnp.ones(distances.shape))}
    >>> def predict(state, inputs):
    ...     return state.params
    >>> def init(key, hparams, batch):
    ...     zero = jnp.zeros((), jnp.int32)
    ...     return TrainState(zero, batch["inputs"][0] * 0, {}, {}, key, hparams, {})
    >>> means = Learner(init, no_gradients, update, evaluate, predict)
    >>> batch = {"inputs": jnp.array([[1.0], [3.0]])}
    >>> state, metrics = means.step(means.init(None, {}, batch), batch)
    >>> means.predict(state, None).tolist(), float(metrics["distance"].value())
    ([2.0], 1.0)
"""

import inspect
from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import jax

from jaxnn import display
from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.metrics import Metric
from jaxnn.network import Network
from jaxnn.objectives import Objective
from jaxnn.typing import Any, Array, Batch, Callable, Hparams, Int, Key, Params, PyTree, State

# Streams of randomness, derived from one key and never advanced: the draws of a step do not depend
# on earlier draws, so a run can stop and resume anywhere.
INIT, STEPS, ORDER, SELECT = 0, 1, 2, 3


class TrainState(NamedTuple):
    """All that a training run is, as one pytree of arrays.

    Attributes:
      step: the number of training steps done.
      params: what training adjusts.
      state: the network's other arrays, such as running statistics.
      opt_state: the optimizer's memory.
      key: the run's key; randomness is derived from it and `step`.
      hparams: the hyper-parameters, by name.
      extra: the arrays that transforms of the learner add, by name.
    """

    step: Int[Array, ""]
    params: Params
    state: State
    opt_state: PyTree
    key: Key[Array, ""]
    hparams: dict[str, Any]
    extra: dict[str, Any]


class Gradients(NamedTuple):
    """The result of comparing predictions with known outcomes.

    Attributes:
      values: the gradient of the loss, in the structure of the parameters.
      state: the network's state after.
      loss: the mean that was differentiated, a `jaxnn.metrics.mean`.
      metrics: the other metrics of the batch, `{name: Metric}`.
    """

    values: Params
    state: State
    loss: Metric
    metrics: dict[str, Metric]


@runtime_checkable
class ComputeGradients(Protocol):
    """Returns the gradients of a batch; `None` where `update` does the whole step.

    A batch that is read in parts passes the number of each as `part`, so that no two draw the same.
    The loss is multiplied by `factor` before it is differentiated and the gradient divided after.
    """

    def __call__(
        self, state: Any, batch: Batch, part: Any = None, factor: Any = None
    ) -> Gradients | None: ...


def no_gradients(state: Any, batch: Batch, part: Any = None, factor: Any = None) -> None:
    """The `gradients` of a learner whose `update` does the whole step."""
    return None


class LearnerParts(NamedTuple):
    """The parts of a learner, for pictures and reports; training never looks at them."""

    network: Callable[[Hparams], Network]
    objective: Callable[[Hparams], Objective]


class _Fields(NamedTuple):
    init: Callable[[Any, Hparams, Batch], Any]
    gradients: ComputeGradients
    update: Callable[[Any, Batch, Any], tuple[Any, dict[str, Metric]]]
    evaluate: Callable[[Any, Batch], dict[str, Metric]]
    predict: Callable[[Any, Any], Any]
    check: Callable[[Hparams, Batch, Any, Batch], None] = lambda hparams, arrays, state, batch: None
    eval_path: str = "params"
    parts: LearnerParts | None = None
    placement: Any = None


class Learner(_Fields):
    """How parameters change. Any pytree with a field `step` is a state, such as `TrainState`.

    To change a step, replace `gradients` or `update`: transforms and drivers compute with these.

    Attributes:
      init: `(key, hparams, batch) -> state`; reads only shapes and dtypes of the batch.
      gradients: `(state, batch, part=None, factor=None) -> Gradients`, or `None` where `update`
        does the whole step (`no_gradients`).
      update: `(state, batch, gradients) -> (state, {name: Metric})`: adjusts the weights.
      evaluate: `(state, batch) -> {name: Metric}`.
      predict: `(state, inputs) -> outputs`.
      check: `(hparams, arrays, state, batch) -> None`, with the whole data, and the shapes of the
        state and of a batch; raises, before anything compiles, on hyper-parameters and data that
        cannot be used.
      eval_path: where in the state the parameters stand that it evaluates and predicts with.
      parts: its network and objective, where they are known.
      placement: where its states and batches lie, if `jaxnn.scale.shard` has spread it over a mesh.
    """

    __slots__ = ()

    def _replace(self, **changes: Any) -> "Learner":  # pyright: ignore
        if "step" in changes:
            raise InvalidType(
                "Learner",
                "step is not a field, but gradients and then update",
                got="_replace(step=...)",
                expected="_replace(update=...), _replace(gradients=...) or both",
                fix="Wrap update: (state, batch, gradients) -> (state, metrics); gradients may be"
                " jaxnn.learning.no_gradients if update does the whole step",
            )
        return super()._replace(**changes)

    def step(self, state: Any, batch: Batch) -> tuple[Any, dict[str, Metric]]:
        """Does one training step: computes the gradients of a batch, and updates the state."""
        return self.update(state, batch, self.gradients(state, batch))

    def eval_params(self, state: Any) -> Params:
        """Returns the parameters that it evaluates and predicts with, such as an average."""
        if self.eval_path == "params":
            return state.params
        values = state
        for name in self.eval_path.split("/"):
            values = values[name] if isinstance(values, Mapping) else getattr(values, name)
        return jax.tree.map(lambda value, own: value.astype(own.dtype), values, state.params)

    def _repr_html_(self) -> str:
        return display.block(display.learner(self.parts, {}))


def compute_gradients(
    where: str, learner: Learner, state: Any, batch: Batch, **arguments: Any
) -> Gradients:
    """Computes gradients for the transform `where`, with what is given of `part` and `factor`.

    Raises `InvalidType` if the learner computes none, or does not take the arguments.
    """
    arguments = {name: value for name, value in arguments.items() if value is not None}
    signature = inspect.signature(learner.gradients)
    try:
        signature.bind(state, batch, **arguments)
    except TypeError:
        raise InvalidType(
            where,
            "the gradients of this learner are computed without what the transform passes",
            got=f"gradients{signature}",
            expected="gradients(state, batch, part=None, factor=None)",
            fix=f"Take {' and '.join(arguments)}, and pass them to the function that is replaced",
        ) from None
    return require_gradients(where, learner.gradients(state, batch, **arguments))


def require_gradients(where: str, gradients: Gradients | None) -> Gradients:
    """Returns the gradients; raises `InvalidType` if the learner computes none."""
    if gradients is None:
        raise InvalidType(
            where,
            "the step of this learner is one piece",
            got="a Learner whose gradients are None",
            expected="Gradients, as of learner(network, objective, optimizer)",
            fix="Return Gradients(values, state, loss, metrics) from gradients and leave the rest"
            f" to update, or do in update what {where} does",
        )
    return gradients


def add_extra(where: str, state: Any, **arrays: Any) -> Any:
    """Returns a state with arrays added to `extra`, by name; raises if it has no room for them."""
    extra = getattr(state, "extra", None)
    if not isinstance(extra, dict):
        raise InvalidType(
            where,
            "the state of this learner has no place for arrays of transforms",
            got=f"a {type(state).__name__} without `extra`",
            expected="a state with a dict `extra`, as TrainState has",
            fix="Add a field `extra`, {} at first, to the state, or use TrainState",
        )
    for name in arrays.keys() & extra:
        raise InvalidValue(
            where,
            f"the learner has {name!r} in its state already",
            got=f"a state whose extra has {', '.join(sorted(extra))}",
            expected=f"one without {name!r}",
            fix=f"Apply {where} once",
        )
    return state._replace(extra={**extra, **arrays})
