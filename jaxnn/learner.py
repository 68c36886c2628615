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

import difflib
import inspect
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnn import metrics as measures
from jaxnn.checks import InvalidType, InvalidValue, positive
from jaxnn.network import Network
from jaxnn.objectives import Objective, objective
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


def _unchecked(hparams: Hparams, arrays: Batch) -> None:
    return None


class Learner(NamedTuple):
    """How parameters change.

    Attributes:
      init: `(key, hparams, batch) -> state`; reads only shapes and dtypes of the batch. Any pytree
        with a field `step` is a state; `TrainState` is the usual one.
      step: `(state, batch) -> (state, {name: Metric})`.
      evaluate: `(state, batch) -> {name: Metric}`.
      predict: `(state, inputs) -> outputs`.
      check: `(hparams, arrays) -> None`, with the whole data and before anything compiles; raises
        on hyper-parameters and data that cannot be used.
    """

    init: Callable[..., Any]
    step: Callable[[Any, Batch], tuple[Any, dict[str, measures.Metric]]]
    evaluate: Callable[[Any, Batch], dict[str, measures.Metric]]
    predict: Callable[[Any, Any], Any]
    check: Callable[[Hparams, Batch], None] = _unchecked


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
    build_network = _builder("network", network, Network, read)
    build_objective = _builder("objective", objective, Objective, read)
    build_optimizer = _builder("optimizer", optimizer, optax.GradientTransformation, read)

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

    def step(state, batch):
        net, goal = build_network(state.hparams), build_objective(state.hparams)
        tx = optax.with_extra_args_support(build_optimizer(state.hparams))
        key = jax.random.fold_in(jax.random.fold_in(state.key, STEPS), state.step)
        prepare_key, apply_key = jax.random.split(key)
        batch = goal.prepare(prepare_key, batch)

        def loss(params):
            outputs, after = _apply(net, params, state.state, batch["inputs"], apply_key)
            measured = measures.mean(*goal.loss(outputs, batch))
            total, weight = measured.sums
            # A batch whose weights are all 0 has nothing to say: its gradient is 0, not NaN.
            return total / jnp.where(weight > 0, weight, 1.0), (outputs, after, measured)

        (value, (outputs, after, measured)), grads = jax.value_and_grad(loss, has_aux=True)(
            state.params
        )
        with jax.named_scope("optimizer"):  # `replay` and profiles tell it from the gradient so
            updates, opt_state = tx.update(
                grads, state.opt_state, state.params,
                value=value, grad=grads, value_fn=lambda params: loss(params)[0],
            )  # fmt: skip
            _check_same_structure("updates", state.params, updates)
            params = optax.apply_updates(state.params, updates)
        metrics = {"loss": measured, **goal.metrics(outputs, batch)}
        metrics |= _learning_rate(opt_state, state.hparams)
        state = state._replace(
            step=state.step + 1,
            params=params,
            state=after,
            opt_state=opt_state,
        )
        return state, metrics

    def evaluate(state, batch):
        net, goal = build_network(state.hparams), build_objective(state.hparams)
        batch = goal.prepare(None, batch)
        outputs, _ = _apply(net, state.params, state.state, batch["inputs"], None)
        return {"loss": measures.mean(*goal.loss(outputs, batch)), **goal.metrics(outputs, batch)}

    def predict(state, inputs):
        net = build_network(state.hparams)
        return _apply(net, state.params, state.state, inputs, None)[0]

    def check(hparams, arrays):
        if "learning_rate" in hparams:
            positive("learner", "learning_rate", hparams["learning_rate"])
        net, goal = build_network(hparams), build_objective(hparams)
        build_optimizer(hparams)
        index = jax.ShapeDtypeStruct(jax.tree.leaves(arrays)[0].shape[:1], jnp.int32)
        batch = {**arrays, "index": index}

        def outputs(batch):
            batch = goal.prepare(None, batch)
            params, state = net.init(jax.random.key(0), batch["inputs"])
            outputs, _ = _apply(net, params, state, batch["inputs"], None)
            goal.loss(outputs, batch)
            return outputs

        goal.check(jax.eval_shape(outputs, batch), arrays)
        if set(hparams) - read:
            # A schedule reads its hyper-parameters only when it is called: in a step.
            state = jax.eval_shape(partial(init, hparams=hparams), jax.random.key(0), batch=batch)
            jax.eval_shape(step, state, batch)
            _check_read(hparams, read)

    return Learner(init, step, evaluate, predict, check)


def _builder(name: str, given: Any, kind: Any, read: set[str]) -> Callable[[Hparams], Any]:
    """Returns a function of hyper-parameters that makes `given`, and checks what it makes."""

    def checked(made):
        if kind is Objective and not isinstance(made, Objective) and _is_loss(made):
            return objective(made)
        if not isinstance(made, kind):
            raise InvalidType(
                "learner",
                f"the {name} is of another kind",
                got=f"{type(made).__name__} {made!r}",
                expected=f"{kind.__name__}, or a function of the hyper-parameters that returns one",
                fix={
                    "network": "Pass from_flax(model)"
                    if _is_flax(made)
                    else "Pass mlp([64], 10), serial(...) or from_flax(model)",
                    "objective": "Pass classification(), regression() or a loss of your own",
                    "optimizer": "Pass optax.adam(1e-3), or lambda h:"
                    " optax.adam(h['learning_rate'])",
                }[name],
            )
        return made

    if isinstance(given, kind) or not _takes_hparams(given):
        made = checked(given)
        return lambda hparams: made
    return lambda hparams: checked(given(_Given(name, hparams, read)))


class _Given(dict):
    """The hyper-parameters that were given; reading another one is an error that names them."""

    def __init__(self, reader: str, hparams: Hparams, read: set[str]):
        super().__init__(hparams)
        self.reader, self.read = reader, read

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default

    def __missing__(self, name: str) -> Any:
        near = difflib.get_close_matches(str(name), list(self), n=1)
        raise InvalidValue(
            "learner",
            f"the {self.reader} reads a hyper-parameter that was not given",
            got=f"hparams with {', '.join(self) or 'nothing'}",
            expected=f"{name!r} among them",
            fix=f"Pass hparams={{{name!r}: number}}"
            + (f", or read {near[0]!r}, which was given" if near else ""),
        )


def _check_read(hparams: Hparams, read: set[str]) -> None:
    unread = sorted(set(hparams) - read)
    if unread:
        raise InvalidValue(
            "learner",
            "a hyper-parameter is read by nothing",
            got=f"{unread[0]}={hparams[unread[0]]!r}",
            expected=f"those that are read: {', '.join(sorted(read)) or 'none'}",
            fix=f"Leave it out, or read it: optimizer=lambda h: optax.adam(h[{unread[0]!r}])",
        )


def _takes_hparams(given: Any) -> bool:
    """Whether one argument must be given, and it is not the rate of an optimizer not yet called."""
    if not callable(given) or _is_flax(given):
        return False
    parameters = inspect.signature(given).parameters
    needed = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) == 1 and needed != ["learning_rate"]


def _is_flax(given: Any) -> bool:
    """Whether it is a Flax model or its class, told by name so that Flax is not imported."""
    kinds = (given if isinstance(given, type) else type(given)).__mro__
    return any(kind.__module__.startswith("flax.") for kind in kinds)


def _is_loss(given: Any) -> bool:
    """Whether it can be called with outputs and a batch."""
    try:
        return callable(given) and bool(inspect.signature(given).bind(None, None))
    except TypeError:
        return False


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
