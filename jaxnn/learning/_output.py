"""The output layer and the loss in parts of a batch, for outputs that would fill the memory.

The logits of a language model are often larger than all else in a training step: `[batch, time,
vocabulary]`, and their gradients once more. But a loss has a value for each example. So everything
up to the output layer is computed for the whole batch, and the output layer, the loss, the metrics
and their gradients for one part of the batch after the other:

    features = body(params, inputs)            # the inputs of the output layer, for the whole batch
    for each part of the features: the gradients of loss(head(params, part)), by params and by part
    the gradients of body, from those of the features

Nothing is computed twice, and the outputs of only one part exist at once. (`accumulate` computes
whole networks in parts, which saves the memory of all activations, and gathers sharded weights once
for each part.)
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

from jaxnn.calls import apply_inner, inside
from jaxnn.checks import InvalidValue, multiple
from jaxnn.layers._linear import at_least_float32
from jaxnn.names import listing
from jaxnn.network import Network
from jaxnn.transforms import capture
from jaxnn.typing import Any, Batch, Callable, Params, State

# The name of the last layer in every model of the library.
OUTPUT = "output"

Measure = Callable[[Any, Batch], Any]


def split_rows(where: str, tree: Any, name: str, parts: int) -> Any:
    """Splits a batch into parts of equally many rows, `[parts, rows / parts, ...]`.

    Part `i` has every `parts`-th row, starting at row `i`. So when a batch is sharded, every device
    has an equal share of every part. Raises `InvalidValue` unless `parts`, the argument `name` of
    `where`, divides the batch size.
    """
    multiple(where, "batch_size", len(jax.tree.leaves(tree)[0]), name, parts)
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), tree)


def check_output(network: Network) -> None:
    """Raises `InvalidValue` unless the last part of a network is its output layer, by its name."""
    inner = network
    while inner.parts.times == 1 and [name for name, _ in inner.parts.children] == [""]:
        inner = inner.parts.children[0][1]
    names = [name for name, _ in inner.parts.children]
    if names[-1:] != [OUTPUT] or inner.parts.flow != "serial":
        raise InvalidValue(
            "learner",
            "the network does not end with an output layer, which output_parts divides",
            got=f"a network of kind {inner.parts.kind}"
            + (f" with the parts {listing(names)}" if names else ""),
            expected=f"a network in series whose last part is named {OUTPUT!r}, as in gpt and mlp",
            fix=f"Write serial(..., ({OUTPUT!r}, linear(n))), or use accumulate(learner, parts)",
        )


def metrics_in_parts(
    measure: Measure, network: Network, state: Any, batch: Batch, parts: int
) -> Any:
    """Returns the metrics of a batch, with the outputs of one part of it after the other.

    Args:
      measure: `(outputs, batch) -> metrics`, any tree of sums over examples.
      network: a network whose last part is the output layer.
      state: a `TrainState`.
      batch: the batch, as the objective prepares it.
      parts: the number of parts, which divides the batch size.
    """
    captured, _ = _needed(lambda: _body(network, state.params, state, batch["inputs"], None)[0])
    rows = split_rows("learner", (captured(), batch), "output_parts", parts)
    head, _ = _head(network, state, _first(rows[0]), _first(rows[1]), None)

    def of_part(own):
        features, batch = own
        return measure(head(state.params, features, None), batch)

    return _summed(lax.map(of_part, rows))


def gradients_in_parts(
    measure: Measure, network: Network, state: Any, batch: Batch, key: Any, parts: int, factor: Any
) -> tuple[Params, State, Any]:
    """Returns the gradient of the mean loss, the network's new state, and the metrics of a batch.

    Args:
      measure: `(outputs, batch) -> (loss, metrics)`, where `loss` is a `jaxnn.metrics.mean`.
      network: a network whose last part is the output layer.
      state: a `TrainState`.
      batch: the batch, as the objective prepares it.
      key: the key of the forward pass.
      parts: the number of parts, which divides the batch size.
      factor: multiplies the loss; 1 if `None`.
    """

    def up_to_output(params):
        features, outputs, after = _body(network, params, state, batch["inputs"], key)
        # The weights of a loss rarely depend on the outputs, which nothing needs then.
        _, weight = measure(outputs, batch)[0].sums
        leaves, rest = _inexact(features)
        return leaves, (rest, after, weight)

    forward, _ = _needed(up_to_output, state.params)
    features, pull, (rest, after, weight) = jax.vjp(forward, state.params, has_aux=True)
    scale = (1.0 if factor is None else factor) / jnp.where(weight > 0, weight, 1.0)
    rows = split_rows("learner", ((features, rest), batch), "output_parts", parts)
    head, reads = _head(network, state, _merged(*_first(rows[0])), _first(rows[1]), key)
    leaves, structure = jax.tree.flatten(state.params)

    def loss(read, features, rest, batch, key):
        params = jax.tree.unflatten(structure, _replaced(leaves, reads, read))
        measured = measure(head(params, _merged(features, rest), key), batch)
        return measured[0].sums[0] * scale, measured

    def of_part(total, numbered):
        number, ((features, rest), batch) = numbered
        own_key = jax.random.fold_in(key, number)
        gradient = jax.grad(loss, (0, 1), has_aux=True)
        (own, of_features), measured = gradient(read, features, rest, batch, own_key)
        total = jax.tree.map(lambda total, x: total + x.astype(total.dtype), total, own)
        return total, (of_features, measured)

    read = [x for x, is_read in zip(leaves, reads) if is_read]
    # In half precision, a sum of many parts would lose the small ones.
    zeros = [jnp.zeros(x.shape, at_least_float32(x.dtype)) for x in read]
    total, (of_features, measured) = lax.scan(of_part, zeros, (jnp.arange(parts), rows))
    (values,) = pull(_join_rows(of_features))
    added = _replaced([0.0] * len(leaves), reads, total)
    values = [(x + y).astype(x.dtype) for x, y in zip(jax.tree.leaves(values), added)]
    return jax.tree.unflatten(structure, values), after, _summed(measured)


def _body(network: Network, params: Params, state: Any, inputs: Any, key: Any) -> Any:
    """Returns the inputs of the output layer, the outputs, and the network's state."""
    captured = capture(network, [OUTPUT], inputs=True)
    (outputs, features), after = captured.apply(params, state.state, inputs, key=key)
    return features[OUTPUT], outputs, after


def _head(
    network: Network, state: Any, features: Any, batch: Batch, key: Any
) -> tuple[Callable[..., Any], list[bool]]:
    """Returns the outputs as a function `(params, features, key) -> outputs`.

    The features are the inputs of the output layer. Returned with the function is whether it reads
    each leaf of the parameters. Raises `InvalidValue` if the outputs also depend on the inputs of
    the network.
    """

    def tail(params, features, key, inputs):
        with inside(_Features(features)):
            return apply_inner(network, params, state.state, inputs, key)[0]

    head, (reads, _, _, others) = _needed(tail, state.params, features, key, batch["inputs"])
    if any(others):
        raise InvalidValue(
            "learner",
            "the outputs of the network are not those of its output layer",
            got="outputs that also depend on the inputs of the network in another way",
            expected="a network that computes nothing else after the output layer",
            fix="Leave out output_parts, or use accumulate(learner, parts)",
        )
    return head, reads


def _needed(function: Callable[..., Any], *given: Any) -> tuple[Callable[..., Any], Any]:
    """Returns the function without the operations that its results do not need.

    Returned with it is whether it reads each leaf of each argument. The last arguments may be left
    out if it reads nothing of them.
    """
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*given)
    jaxpr, used = dce_jaxpr(program.jaxpr, [True] * len(program.jaxpr.outvars))
    run = jaxpr_as_fun(ClosedJaxpr(jaxpr, program.consts))

    def reduced(*given):
        read = [x for x, is_read in zip(jax.tree.leaves(given), used) if is_read]
        return jax.tree.unflatten(jax.tree.structure(shapes), run(*read))

    marks = iter(used)
    return reduced, [[next(marks) for _ in jax.tree.leaves(each)] for each in given]


@dataclass(frozen=True, eq=False)
class _Features:
    """The frame that passes features to the output layer, in place of its inputs."""

    features: Any
    is_output: bool = False

    def enter(self, name):
        if self.is_output or name not in ("", OUTPUT):
            return None
        return replace(self, is_output=name == OUTPUT)

    def __call__(self, part, proceed, params, state, inputs, key):
        if not self.is_output:
            return proceed(params, state, inputs, key)
        return proceed(params, state, self.features, key, within=None)


def _replaced(leaves: list[Any], marks: list[bool], new: list[Any]) -> list[Any]:
    """Returns the leaves, with the marked ones replaced by `new`, in order."""
    rest = iter(new)
    return [next(rest) if is_marked else x for x, is_marked in zip(leaves, marks)]


def _first(rows: Any) -> Any:
    return jax.eval_shape(lambda rows: jax.tree.map(lambda x: x[0], rows), rows)


def _join_rows(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), tree)


def _summed(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.sum(0), tree)


def _inexact(tree: Any) -> tuple[Any, Any]:
    """Splits a tree in two: with the arrays that have a gradient, and with all others."""
    leaves, structure = jax.tree.flatten(tree)
    has = [jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]
    inexact = (x if is_inexact else None for x, is_inexact in zip(leaves, has))
    rest = (None if is_inexact else x for x, is_inexact in zip(leaves, has))
    return jax.tree.unflatten(structure, inexact), jax.tree.unflatten(structure, rest)


def _merged(inexact: Any, rest: Any) -> Any:
    return jax.tree.map(
        lambda x, y: y if x is None else x, inexact, rest, is_leaf=lambda x: x is None
    )
