"""The supervised learner, which minimizes an objective over the parameters of a network.

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

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxnn import metrics as measures
from jaxnn.calls import as_arrays
from jaxnn.checks import InvalidType, InvalidValue, positive, positive_integer
from jaxnn.hparams import builder, check_read
from jaxnn.layers._linear import at_least_float32
from jaxnn.learning._given import with_given
from jaxnn.learning._learner import INIT, STEPS, Gradients, Learner, LearnerParts, TrainState
from jaxnn.learning._output import gradients_in_parts, metrics_in_parts
from jaxnn.metrics.metric import check_metrics
from jaxnn.network import Network
from jaxnn.objectives import Objective
from jaxnn.objectives._examples import shield, shielded_batch, try_examples
from jaxnn.typing import Any, Batch, Callable, Hparams

# The names of the metrics that the learner and its transforms report themselves.
RESERVED = {"loss", "learning_rate", "skipped"}


def learner(
    network: Network | Callable[[Hparams], Network],
    objective: Objective | Callable[..., Any],
    optimizer: optax.GradientTransformation | Callable[[Hparams], optax.GradientTransformation],
    *,
    output_parts: int = 1,
) -> Learner:
    """Returns a learner that minimizes the objective over the network's parameters.

    Each argument may also be a function of the hyper-parameters that returns it. The function is
    called during tracing, with hyper-parameters that are inputs of the program, so that other
    values do not trigger recompilation. A loss function `(outputs, batch) -> values` may be passed
    instead of an objective.

        learner(lambda h: mlp([64], 10, dropout=h["dropout"]),
                classification(),
                lambda h: optax.adamw(h["learning_rate"]))

    The optimizer's `update` receives the loss (`value`), the gradients (`grad`) and the loss as a
    function of the parameters (`value_fn`), which line searches and plateau schedules need.

    The metrics of a step are the loss, the objective's metrics, and the `learning_rate` if it is
    known: from the optimizer's state, or from the hyper-parameters if no schedule scales it.

    Args:
      network: a `Network`, or a function `hparams -> Network`.
      objective: an `Objective`, a function `hparams -> Objective`, or a loss function.
      optimizer: an optax optimizer, or a function `hparams -> optimizer`.
      output_parts: the number of parts of a batch in which the output layer and the loss are
        computed, one after the other. It saves the memory of outputs that are large, such as the
        logits of a vocabulary; the results are the same, up to rounding. It must divide the batch
        size. Neither the output layer nor the loss may compute with several examples at once;
        dropout in the output layer draws other masks.

    Returns:
      A `Learner` whose state is a `TrainState`.

    Raises:
      InvalidType: if an argument has the wrong type, or, when traced, if `apply` does not return a
        pair, or the optimizer changes the structure of the parameters.
      InvalidValue: if `output_parts` is not positive; when traced, if it does not divide the batch
        size, the last part of the network is not named `"output"`, or the outputs or the loss
        cannot be computed in parts.
    """
    positive_integer("learner", "output_parts", output_parts)
    read: set[str] = set()  # the hyper-parameters that a function has read
    build_network = builder("network", network, Network, read)
    build_objective = builder("objective", objective, Objective, read)
    build_optimizer = builder("optimizer", optimizer, optax.GradientTransformation, read)

    def init(key, hparams, batch):
        net, goal = build_network(hparams), build_objective(hparams)
        inputs = jax.eval_shape(lambda b: goal.prepare(None, b), batch)["inputs"]
        drawn = net.init(jax.random.fold_in(key, INIT), as_arrays(inputs))
        params, state = with_given(*drawn)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            state=state,
            opt_state=build_optimizer(hparams).init(params),
            key=key,
            hparams=jax.tree.map(jnp.asarray, dict(hparams)),
            extra={},
        )

    def keys_of(state, part):
        """Returns the keys to prepare a batch, and for the forward pass."""
        key = jax.random.fold_in(jax.random.fold_in(state.key, STEPS), state.step)
        prepare_key, apply_key = jax.random.split(key)
        return prepare_key, apply_key if part is None else jax.random.fold_in(apply_key, part)

    def mean_loss(params, state, batch, part=None):
        """Returns the mean loss, and `(outputs, state of the network, loss, batch)`."""
        net, goal = build_network(state.hparams), build_objective(state.hparams)
        prepare_key, key = keys_of(state, part)
        _, batch = shielded_batch(None, goal.prepare(prepare_key, batch))
        outputs, after = _apply(net, params, state.state, batch["inputs"], key)
        measured = _loss(goal, outputs, batch)
        total, weight = measured.sums
        # The gradient of a batch whose weights are all 0 is 0, not NaN.
        return total / jnp.where(weight > 0, weight, 1.0), (outputs, after, measured, batch)

    def gradients(state, batch, part=None, factor=None):
        goal = build_objective(state.hparams)

        def scaled(params):
            value, rest = mean_loss(params, state, batch, part)
            return value if factor is None else value * factor, rest

        if output_parts == 1:
            values, (outputs, after, loss, ready) = jax.grad(scaled, has_aux=True)(state.params)
            metrics = _metrics(goal, outputs, ready)
        else:
            net, (prepare_key, key) = build_network(state.hparams), keys_of(state, part)
            values, after, (loss, metrics) = gradients_in_parts(
                partial(_measured, goal, in_parts=True),
                net._replace(apply=partial(_apply, net)),
                state,
                lambda batch: shielded_batch(None, goal.prepare(prepare_key, batch))[1],
                batch, key, output_parts, factor,
            )  # fmt: skip
        if factor is not None:
            # In float32: the factor itself may be too large for half precision.
            def unscaled(x):
                dtype = at_least_float32(x.dtype)
                return (x.astype(dtype) / factor.astype(dtype)).astype(x.dtype)

            values = jax.tree.map(unscaled, values)
        # For complex parameters, `jax.grad` returns the conjugate of the direction of ascent, with
        # which an optimizer would climb along the imaginary axis.
        values = jax.tree.map(lambda x: x.conj() if jnp.iscomplexobj(x) else x, values)
        return Gradients(values, after, loss, metrics)

    def update(state, batch, gradients):
        tx = optax.with_extra_args_support(build_optimizer(state.hparams))
        total, weight = gradients.loss.sums
        # `replay` and profiles distinguish it from the gradient by this name. Optax mixes dtypes:
        # its Adam raises a float to an integer power.
        with jax.named_scope("optimizer"), jax.numpy_dtype_promotion("standard"):
            updates, opt_state = tx.update(
                gradients.values, state.opt_state, state.params,
                value=total / jnp.where(weight > 0, weight, 1.0), grad=gradients.values,
                value_fn=lambda params: mean_loss(params, state, batch)[0],
            )  # fmt: skip
            _check_same_structure(state.params, updates)
            params = optax.apply_updates(state.params, updates)
        rate = _learning_rate(opt_state, state.hparams)
        metrics = {"loss": gradients.loss, **gradients.metrics, **rate}
        after = {"params": params, "state": gradients.state, "opt_state": opt_state}
        return state._replace(step=state.step + 1, **after), metrics

    def evaluate(state, batch):
        goal = build_objective(state.hparams)
        prepare = partial(goal.prepare, None)
        if output_parts == 1:
            batch = prepare(batch)
            loss, metrics = _measured(goal, predict(state, batch["inputs"]), batch)
        else:
            net = build_network(state.hparams)
            net = net._replace(apply=partial(_apply, net))
            measure = partial(_measured, goal, in_parts=True)
            loss, metrics = metrics_in_parts(measure, net, state, prepare, batch, output_parts)
        return {"loss": loss, **metrics}

    # Traced once for each set of shapes, regardless of the programs that call it.
    @partial(jax.jit, inline=True)
    def predict(state, inputs):
        net = build_network(state.hparams)
        return _apply(net, state.params, state.state, inputs, None)[0]

    def check(hparams, arrays, state, batch):
        if "learning_rate" in hparams:
            positive("learner", "learning_rate", hparams["learning_rate"])
        build_network(hparams)
        build_optimizer(hparams)
        goal = build_objective(hparams)

        def outputs(state, batch):
            batch = goal.prepare(None, batch)
            outputs = predict(state, batch["inputs"])
            _check_differentiable(goal.loss(outputs, batch)[0])
            return outputs

        shapes = jax.eval_shape(outputs, state, batch)
        if goal.check is None:
            try_examples(goal, shapes, arrays, jax.tree.leaves(batch)[0].shape[0])
        else:
            goal.check(shapes, arrays)
        if set(hparams) - read:
            # A schedule reads its hyper-parameters only when it is called: in a step.
            jax.eval_shape(lambda s, b: update(s, b, gradients(s, b)), state, batch)
            check_read(hparams, read)

    parts = LearnerParts(build_network, build_objective)
    return Learner(init, gradients, update, evaluate, predict, check, parts=parts)


def _apply(network: Network, params: Any, state: Any, inputs: Any, key: Any) -> tuple[Any, Any]:
    result = network.apply(params, state, inputs, key=key)
    if not isinstance(result, tuple) or len(result) != 2:
        raise InvalidType(
            "learner",
            "the network's apply must return two values",
            got="one array" if hasattr(result, "shape") else f"a {type(result).__name__}",
            expected="a pair (outputs, state)",
            fix="Write `return outputs, state` in apply, or create the network with stateless()",
        )
    return result


def _loss(
    goal: Objective, outputs: Any, batch: Batch, *, in_parts: bool = False
) -> measures.Metric:
    values, weights = shield(goal.loss)(outputs, batch)  # a user's loss is shielded only here
    _check_differentiable(values)
    if in_parts and (jnp.ndim(values) == 0 or getattr(goal.loss, "of_whole_batch", False)):
        raise InvalidValue(
            "learner",
            "a loss over a whole batch cannot be computed in parts",
            got="a loss that compares the examples of a batch, and output_parts",
            expected="a loss in which each example counts by itself",
            fix="Leave out output_parts",
        )
    return measures.mean(values, weights, better="lower")


def _measured(
    goal: Objective, outputs: Any, batch: Batch, *, in_parts: bool = False
) -> tuple[measures.Metric, Any]:
    loss = _loss(goal, outputs, batch, in_parts=in_parts)
    return loss, _metrics(goal, lax.stop_gradient(outputs), batch)


def _check_differentiable(values: Any) -> None:
    dtype = jnp.result_type(values)
    if not jnp.issubdtype(dtype, jnp.floating):
        is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
        raise InvalidType(
            "learner",
            "the values of the loss are complex" if is_complex else "the loss has no gradient",
            got=f"values of dtype {dtype}",
            expected="a floating-point dtype",
            fix="Take a real number, such as jnp.abs(values) ** 2"
            if is_complex
            else "Minimize a differentiable loss, and report this one as a metric",
        )


def _metrics(goal: Objective, outputs: Any, batch: Batch) -> dict[str, measures.Metric]:
    metrics = shield(goal.metrics)(outputs, batch)
    check_metrics("learner", "the results of the objective's metrics", metrics)
    for name in RESERVED & metrics.keys():
        raise InvalidValue(
            "learner",
            "a metric of the objective has a reserved name",
            got=f"a metric named {name!r}",
            expected=f"a name that is not one of {', '.join(sorted(RESERVED))}",
            fix=f"Name it, say, 'own_{name}'",
        )
    return metrics


def _check_same_structure(params: Any, updates: Any) -> None:
    ours, theirs = (
        {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
        for leaves in map(jax.tree.leaves_with_path, (params, updates))
    )
    for path in sorted(path for path, _ in ours.items() ^ theirs.items()):
        raise InvalidType(
            "learner",
            "the optimizer's updates do not match the parameters",
            got=f"{theirs.get(path, 'nothing')} at params{path}",
            expected=f"{ours.get(path, 'nothing')}, as in the parameters",
            fix="Return updates with the structure and shapes of the parameters from the"
            " optimizer's update",
        )


def _learning_rate(opt_state: Any, hparams: Hparams) -> dict[str, measures.Metric]:
    """Returns the optimizer's learning rate, or that of `hparams` if no schedule scales it."""
    rates = [rate for _, rate in optax.tree.get_all_with_path(opt_state, "learning_rate")]
    schedule = optax.ScaleByScheduleState, optax.contrib.ReduceLROnPlateauState
    parts = jax.tree.leaves(opt_state, is_leaf=lambda part: isinstance(part, schedule))
    if not rates and not any(isinstance(part, schedule) for part in parts):
        rates = [hparams["learning_rate"]] if "learning_rate" in hparams else []
    if len(rates) != 1:
        return {}
    return {"learning_rate": measures.mean(jnp.asarray(rates[0], jnp.float32), jnp.ones(()))}
