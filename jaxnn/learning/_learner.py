"""A learner is how parameters change: `init`, `step`, `evaluate` and `predict`, all four pure.

`learner(network, objective, optimizer)` makes the usual one: a training step compares predictions
with known outcomes, and adjusts the weights along the gradient. Network, objective and optimizer
may each be a function of hyper-parameters, which are inputs of the compiled program:

    learner(lambda h: mlp([64], 10, dropout=h["dropout"]),
            classification(),
            lambda h: optax.adamw(h["learning_rate"]))

What does not fit (two optimizers, a GAN, reinforcement learning) is the same four functions written
by hand; whatever trains, sweeps, saves or resumes a learner asks for nothing else.

    >>> import jax, jax.numpy as jnp, optax
    >>> from jaxnn.layers import linear
    >>> from jaxnn.objectives import regression
    >>> batch = {"inputs": jnp.array([[1.0]]), "labels": jnp.array([[2.0]])}
    >>> line = learner(linear(1), regression(), optax.sgd(0.25))
    >>> state = line.init(jax.random.key(0), {}, batch)
    >>> state, metrics = line.step(state, batch)
    >>> int(state.step), line.predict(state, batch["inputs"]).tolist()
    (1, [[2.0]])
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnn import display
from jaxnn import metrics as measures
from jaxnn.checks import InvalidType, positive
from jaxnn.hparams import builder, check_read
from jaxnn.network import Network
from jaxnn.objectives import Objective
from jaxnn.typing import Any, Array, Batch, Callable, Hparams, Int, Key, Params, PyTree, State

# Streams of randomness, derived from one key and never advanced: what is drawn at a step does not
# depend on what was drawn before, so a run can stop and go on anywhere.
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
      extra: what transforms of the learner keep, by name.
    """

    step: Int[Array, ""]
    params: Params
    state: State
    opt_state: PyTree
    key: Key[Array, ""]
    hparams: dict[str, Any]
    extra: dict[str, Any]


def _unchecked(hparams: Hparams, arrays: Batch, state: Any, batch: Batch) -> None:
    return None


class Gradients(NamedTuple):
    """What comes of comparing predictions with known outcomes.

    Attributes:
      values: the gradient of the loss, in the form of the parameters.
      state: the network's state after.
      metrics: `{name: Metric}`, `loss` among them.
    """

    values: Params
    state: State
    metrics: dict[str, measures.Metric]


class Halves(NamedTuple):
    """The two halves of a training step, for what is done between them.

    Attributes:
      gradients: `(state, batch, part=None) -> Gradients`. A step on a batch that is read in parts
        gives each its number, so that no two draw the same.
      update: `(state, batch, gradients) -> (state, metrics)`: adjusts the weights.
      guarded: whether the update leaves out gradients that are not finite.
    """

    gradients: Callable[..., Gradients]
    update: Callable[[Any, Batch, Gradients], tuple[Any, dict[str, measures.Metric]]]
    guarded: bool = False


def _own_params(state: Any) -> Params:
    return state.params


class LearnerParts(NamedTuple):
    """What a learner is made of, for pictures and reports; training never looks at it.

    Attributes:
      network: `(hparams) -> Network`.
      objective: `(hparams) -> Objective`.
      params: `(state) -> params`, those that it predicts with.
    """

    network: Callable[[Hparams], Network]
    objective: Callable[[Hparams], Objective]
    params: Callable[[Any], Params] = _own_params


class Learner(NamedTuple):
    """How parameters change.

    Attributes:
      init: `(key, hparams, batch) -> state`; reads only shapes and dtypes of the batch. Any pytree
        with a field `step` is a state; `TrainState` is the usual one.
      step: `(state, batch) -> (state, {name: Metric})`.
      evaluate: `(state, batch) -> {name: Metric}`.
      predict: `(state, inputs) -> outputs`.
      check: `(hparams, arrays, state, batch) -> None`, with the whole data, and the shapes of the
        state and of a batch; raises, before anything compiles, on hyper-parameters and data that
        cannot be used.
      halves: those of the step, if it has a gradient that something may be done with.
      parts: what it is made of, where that is known.
    """

    init: Callable[..., Any]
    step: Callable[[Any, Batch], tuple[Any, dict[str, measures.Metric]]]
    evaluate: Callable[[Any, Batch], dict[str, measures.Metric]]
    predict: Callable[[Any, Any], Any]
    check: Callable[[Hparams, Batch, Any, Batch], None] = _unchecked
    halves: Halves | None = None
    parts: LearnerParts | None = None

    def _repr_html_(self) -> str:
        return display.block(display.learner(self.parts, {}))


def learner(
    network: Network | Callable[[Hparams], Network],
    objective: Objective | Callable[..., Any],
    optimizer: optax.GradientTransformation | Callable[[Hparams], optax.GradientTransformation],
) -> Learner:
    """Makes the usual learner: minimizes the objective over the network's parameters.

    Each argument is the thing itself or a function of one argument, the hyper-parameters, that
    returns it. Called while tracing, such a function sees numbers that are inputs of the program:
    other values compile nothing anew. A loss `(outputs, batch) -> values` may stand for the
    objective.

    The optimizer is given the loss (`value`), the gradients (`grad`) and the loss as a function of
    the parameters (`value_fn`), as line searches and plateau schedules need.

    Metrics of a step are the loss, the objective's own, and the `learning_rate` where it is known:
    the optimizer's state has one, or the hyper-parameters do and no schedule scales it.

    Raises:
      InvalidType: if an argument is of another kind, or, when traced, if `apply` does not return a
        pair, or the optimizer changes the structure of the parameters.
    """
    read: set[str] = set()  # the hyper-parameters that something was seen to read
    build_network = builder("network", network, Network, read)
    build_objective = builder("objective", objective, Objective, read)
    build_optimizer = builder("optimizer", optimizer, optax.GradientTransformation, read)

    def init(key, hparams, batch):
        net, goal = build_network(hparams), build_objective(hparams)
        inputs = jax.eval_shape(lambda b: goal.prepare(None, b), batch)["inputs"]
        params, state = net.init(jax.random.fold_in(key, INIT), inputs)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            state=state,
            opt_state=build_optimizer(hparams).init(params),
            key=key,
            hparams=jax.tree.map(jnp.asarray, dict(hparams)),
            extra={},
        )

    def problem(state, batch, part=None):
        """Returns the loss as a function of the parameters, with the goal and the batch."""
        net, goal = build_network(state.hparams), build_objective(state.hparams)
        key = jax.random.fold_in(jax.random.fold_in(state.key, STEPS), state.step)
        prepare_key, apply_key = jax.random.split(key)
        batch = goal.prepare(prepare_key, batch)
        apply_key = apply_key if part is None else jax.random.fold_in(apply_key, part)

        def loss(params):
            outputs, after = _apply(net, params, state.state, batch["inputs"], apply_key)
            measured = measures.mean(*goal.loss(outputs, batch))
            total, weight = measured.sums
            # A batch whose weights are all 0 has nothing to say: its gradient is 0, not NaN.
            return total / jnp.where(weight > 0, weight, 1.0), (outputs, after, measured)

        return loss, goal, batch

    def gradients(state, batch, part=None):
        loss, goal, batch = problem(state, batch, part)
        # What half precision cannot hold is scaled up, see `scale_loss`.
        scale = state.extra.get("loss_scale", {"factor": None})["factor"]

        def scaled(params):
            value, rest = loss(params)
            return value if scale is None else value * scale, rest

        (_, (outputs, after, measured)), values = jax.value_and_grad(scaled, has_aux=True)(
            state.params
        )
        if scale is not None:
            # In float32: the scale itself may be too large for half precision.
            values = jax.tree.map(lambda x: (x.astype(scale.dtype) / scale).astype(x.dtype), values)
        metrics = {"loss": measured, **goal.metrics(outputs, batch)}
        return Gradients(values, after, metrics)

    def update(state, batch, gradients):
        tx = optax.with_extra_args_support(build_optimizer(state.hparams))
        total, weight = gradients.metrics["loss"].sums
        with jax.named_scope("optimizer"):  # `replay` and profiles tell it from the gradient so
            updates, opt_state = tx.update(
                gradients.values, state.opt_state, state.params,
                value=total / jnp.where(weight > 0, weight, 1.0), grad=gradients.values,
                value_fn=lambda params: problem(state, batch)[0](params)[0],
            )  # fmt: skip
            _check_same_structure("updates", state.params, updates)
            params = optax.apply_updates(state.params, updates)
        metrics = gradients.metrics | _learning_rate(opt_state, state.hparams)
        state = state._replace(
            step=state.step + 1,
            params=params,
            state=gradients.state,
            opt_state=opt_state,
        )
        return state, metrics

    def step(state, batch):
        return update(state, batch, gradients(state, batch))

    def evaluate(state, batch):
        goal = build_objective(state.hparams)
        batch = goal.prepare(None, batch)
        outputs = forward(state, batch["inputs"])
        return {"loss": measures.mean(*goal.loss(outputs, batch)), **goal.metrics(outputs, batch)}

    def predict(state, inputs):
        net = build_network(state.hparams)
        return _apply(net, state.params, state.state, inputs, None)[0]

    forward = jax.jit(predict, inline=True)  # traced once for its shapes, in whatever program

    def check(hparams, arrays, state, batch):
        if "learning_rate" in hparams:
            positive("learner", "learning_rate", hparams["learning_rate"])
        build_network(hparams), build_optimizer(hparams)
        goal = build_objective(hparams)

        def outputs(state, batch):
            batch = goal.prepare(None, batch)
            outputs = forward(state, batch["inputs"])
            goal.loss(outputs, batch)
            return outputs

        goal.check(jax.eval_shape(outputs, state, batch), arrays)
        if set(hparams) - read:
            # A schedule reads its hyper-parameters only when it is called: in a step.
            jax.eval_shape(step, state, batch)
            check_read(hparams, read)

    parts = LearnerParts(build_network, build_objective)
    return Learner(init, step, evaluate, predict, check, Halves(gradients, update), parts)


def halves_of(where: str, learner: Learner) -> Halves:
    """Returns the halves of a learner's step.

    Raises:
      InvalidType: if it has none.
    """
    if learner.halves is None:
        raise InvalidType(
            where,
            "the step of this learner is one piece",
            got="a Learner without halves",
            expected="one with halves, such as learner(network, objective, optimizer)",
            fix="Give the learner that was written by hand Halves(gradients, update), or do in its"
            " step what is to be done between them",
        )
    return learner.halves


def joined(learner: Learner, halves: Halves) -> Learner:
    """Returns the learner with these halves, and the step that they make."""

    def step(state, batch):
        return halves.update(state, batch, halves.gradients(state, batch))

    return learner._replace(step=step, halves=halves)


def _apply(network: Network, params: Any, state: Any, inputs: Any, key: Any) -> tuple[Any, Any]:
    result = network.apply(params, state, inputs, key=key)
    if not isinstance(result, tuple) or len(result) != 2:
        raise InvalidType(
            "learner",
            "the network's apply must return two values",
            got="one array" if hasattr(result, "shape") else f"a {type(result).__name__}",
            expected="a pair (outputs, state)",
            fix="Write `return outputs, state` in apply, or make the network with stateless()",
        )
    return result


def _check_same_structure(name: str, params: Any, updates: Any) -> None:
    ours, theirs = (
        {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
        for leaves in map(jax.tree.leaves_with_path, (params, updates))
    )
    wrong = sorted(
        path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path)
    )
    if wrong:
        path = wrong[0]
        raise InvalidType(
            "learner",
            f"the optimizer's {name} do not fit the parameters",
            got=f"{theirs.get(path, 'nothing')} at params{path}",
            expected=f"{ours.get(path, 'nothing')}, as in the parameters",
            fix="Return updates with the parameters' own structure and shapes from the"
            " optimizer's update",
        )


def _learning_rate(opt_state: Any, hparams: Hparams) -> dict[str, measures.Metric]:
    """The optimizer's own learning rate; that of `hparams` where no schedule scales it."""
    rates = [rate for _, rate in optax.tree.get_all_with_path(opt_state, "learning_rate")]
    schedule = optax.ScaleByScheduleState
    parts = jax.tree.leaves(opt_state, is_leaf=lambda part: isinstance(part, schedule))
    if not rates and "learning_rate" in hparams:
        rates = [] if any(isinstance(p, schedule) for p in parts) else [hparams["learning_rate"]]
    if len(rates) != 1:
        return {}
    return {"learning_rate": measures.mean(jnp.asarray(rates[0], jnp.float32), jnp.ones(()))}
