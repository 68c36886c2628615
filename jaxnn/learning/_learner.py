"""A learner updates parameters. It is a tuple of pure functions, two of which form a training step.

`gradients` compares predictions with labels, `update` adjusts the weights, and
`learner.step(state, batch)` calls both in turn. `learner(network, objective, optimizer)` returns
the standard supervised learner. For other algorithms (two optimizers, a GAN, reinforcement
learning), write these functions yourself: training, sweeps, checkpoints and resuming require
nothing else. If a step is not a gradient followed by an update, `update` does the whole step:

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
    """The complete state of a training run, as one pytree of arrays.

    Attributes:
      step: the number of completed training steps.
      params: the trainable parameters.
      state: the network's non-trainable arrays, such as running statistics.
      opt_state: the state of the optimizer.
      key: the PRNG key of the run. All randomness is derived from it and `step`.
      hparams: the hyper-parameters, by name.
      extra: the arrays that learner transforms add, by name.
    """

    step: Int[Array, ""]
    params: Params
    state: State
    opt_state: PyTree
    key: Key[Array, ""]
    hparams: dict[str, Any]
    extra: dict[str, Any]


class Gradients(NamedTuple):
    """The gradients of one batch, with its loss and metrics.

    Attributes:
      values: the gradient of the loss, with the tree structure of the parameters.
      state: the network's state after the forward pass.
      loss: the mean loss that was differentiated, a `jaxnn.metrics.mean`.
      metrics: the other metrics of the batch, `{name: Metric}`.
    """

    values: Params
    state: State
    loss: Metric
    metrics: dict[str, Metric]


@runtime_checkable
class ComputeGradients(Protocol):
    """Computes the gradients of a batch; returns `None` if `update` does the whole step.

    When a batch is split into parts, `part` is the index of the part, so that each part draws
    different random numbers. The loss is multiplied by `factor` before differentiation, and the
    gradient is divided by it afterwards.
    """

    def __call__(
        self, state: Any, batch: Batch, part: Any = None, factor: Any = None
    ) -> Gradients | None: ...


def no_gradients(state: Any, batch: Batch, part: Any = None, factor: Any = None) -> None:
    """Returns `None`: the `gradients` of a learner whose `update` does the whole step."""
    return None


class LearnerParts(NamedTuple):
    """The network and objective of a learner, for pictures and reports. Training ignores them."""

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
    """Pure functions that initialise, update and evaluate a training state.

    The state is any pytree with a field `step`, such as `TrainState`. To change a training step,
    replace `gradients` or `update`: transforms and training loops call these two.

    Attributes:
      init: `(key, hparams, batch) -> state`; reads only shapes and dtypes of the batch.
      gradients: `(state, batch, part=None, factor=None) -> Gradients`; returns `None` if `update`
        does the whole step (`no_gradients`).
      update: `(state, batch, gradients) -> (state, {name: Metric})`; adjusts the weights.
      evaluate: `(state, batch) -> {name: Metric}`.
      predict: `(state, inputs) -> outputs`.
      check: `(hparams, arrays, state, batch) -> None`; raises on invalid hyper-parameters or data
        before anything compiles. `arrays` are the whole data; `state` and `batch` are shapes.
      eval_path: the path in the state of the parameters used for evaluation and prediction.
      parts: the network and objective, if known.
      placement: the shardings of states and batches, if `jaxnn.scale.shard` was applied.
    """

    __slots__ = ()

    def _replace(self, **changes: Any) -> "Learner":  # pyright: ignore
        if "step" in changes:
            raise InvalidType(
                "Learner",
                "step is not a field: it calls gradients, then update",
                got="_replace(step=...)",
                expected="_replace(update=...), _replace(gradients=...) or both",
                fix="Wrap update: (state, batch, gradients) -> (state, metrics); gradients may be"
                " jaxnn.learning.no_gradients if update does the whole step",
            )
        return super()._replace(**changes)

    def step(self, state: Any, batch: Batch) -> tuple[Any, dict[str, Metric]]:
        """Performs one training step: computes the gradients of a batch and updates the state."""
        return self.update(state, batch, self.gradients(state, batch))

    def eval_params(self, state: Any) -> Params:
        """Returns the parameters used for evaluation and prediction, such as an average."""
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
    """Computes gradients for the transform `where`, passing `part` and `factor` if given.

    Raises `InvalidType` if the learner computes no gradients or does not accept the arguments.
    """
    arguments = {name: value for name, value in arguments.items() if value is not None}
    signature = inspect.signature(learner.gradients)
    try:
        signature.bind(state, batch, **arguments)
    except TypeError:
        raise InvalidType(
            where,
            "the learner's gradients function does not accept the arguments of the transform",
            got=f"gradients{signature}",
            expected="gradients(state, batch, part=None, factor=None)",
            fix=f"Accept {' and '.join(arguments)}, and pass them to the original function",
        ) from None
    return require_gradients(where, learner.gradients(state, batch, **arguments))


def require_gradients(where: str, gradients: Gradients | None) -> Gradients:
    """Returns the gradients; raises `InvalidType` if the learner computes none."""
    if gradients is None:
        raise InvalidType(
            where,
            "this learner computes no gradients",
            got="a Learner whose gradients are None",
            expected="Gradients, as returned by learner(network, objective, optimizer).gradients",
            fix="Return Gradients(values, state, loss, metrics) from gradients and leave the rest"
            f" to update, or implement {where} in update",
        )
    return gradients


def add_extra(where: str, state: Any, **arrays: Any) -> Any:
    """Returns a state with named arrays added to `extra`; raises if it has no `extra` dict."""
    extra = getattr(state, "extra", None)
    if not isinstance(extra, dict):
        raise InvalidType(
            where,
            "the state of this learner cannot store the arrays of a transform",
            got=f"a {type(state).__name__} without `extra`",
            expected="a state with a dict `extra`, as TrainState has",
            fix="Add a field `extra`, initially {}, to the state, or use TrainState",
        )
    for name in arrays.keys() & extra:
        raise InvalidValue(
            where,
            f"the learner's state already has {name!r}",
            got=f"a state whose extra has {', '.join(sorted(extra))}",
            expected=f"one without {name!r}",
            fix=f"Apply {where} once",
        )
    return state._replace(extra={**extra, **arrays})
