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

from jaxnn.calls import apply_inner, inside
from jaxnn.checks import InvalidValue, multiple
from jaxnn.layers._linear import at_least_float32
from jaxnn.names import listing
from jaxnn.network import Network
from jaxnn.programs import needed
from jaxnn.transforms import capture
from jaxnn.typing import Any, Batch, Callable, Params, State

# The name of the last layer in every model of the library.
OUTPUT = "output"

Measure = Callable[[Any, Batch], Any]
Prepare = Callable[[Batch], Batch]


def split_rows(where: str, tree: Any, name: str, parts: int) -> Any:
    """Splits a batch into parts of equally many rows, `[parts, rows / parts, ...]`.

    Part `i` has every `parts`-th row, starting at row `i`. So when a batch is sharded, every device
    has an equal share of every part. Raises `InvalidValue` unless `parts`, the argument `name` of
    `where`, divides the batch size.
    """
    multiple(where, "batch_size", len(jax.tree.leaves(tree)[0]), name, parts)
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), tree)


def metrics_in_parts(
    measure: Measure, network: Network, state: Any, prepare: Prepare, batch: Batch, parts: int
) -> Any:
    """Returns the metrics of a batch, with the outputs of one part of it after the other.

    Args:
      measure: `(outputs, batch) -> metrics`, any tree of sums over examples.
      network: a network whose last part is the output layer.
      state: a `TrainState`.
      prepare: `batch -> batch`, as the network and the objective read it.
      batch: the batch.
      parts: the number of parts; if it does not divide the batch size, the next number that does.

    Raises `InvalidValue` as described for `gradients_in_parts`.
    """
    _check_output(network)
    size = len(jax.tree.leaves(batch)[0])
    parts = next(each for each in range(min(parts, size), size + 1) if size % each == 0)
    ready = _Split("the batch", prepare(batch), size, _prepared_part(prepare, batch, parts))
    inputs = ready.tree["inputs"]
    captured, _ = _needed(lambda: _body(network, state.params, state, inputs, None)[0])
    features = _Split("the inputs of the output layer", captured(), size, None)
    rows = split_rows("learner", (features.rows, ready.rows), "output_parts", parts)
    head, _ = _head(network, state, features, ready, rows, None)

    def of_part(rows):
        outputs = head(state.params, features.whole(rows[0]), None)
        return measure(outputs, ready.whole(rows[1]))

    return _summed(lax.map(of_part, rows))


def gradients_in_parts(
    measure: Measure,
    network: Network,
    state: Any,
    prepare: Prepare,
    batch: Batch,
    key: Any,
    parts: int,
    factor: Any,
) -> tuple[Params, State, Any]:
    """Returns the gradient of the mean loss, the network's new state, and the metrics of a batch.

    Args:
      measure: `(outputs, batch) -> (loss, metrics)`, where `loss` is a `jaxnn.metrics.mean`.
      network: a network whose last part is the output layer.
      state: a `TrainState`.
      prepare: `batch -> batch`, as the network and the objective read it.
      batch: the batch.
      key: the key of the forward pass.
      parts: the number of parts.
      factor: multiplies the loss; 1 if `None`.

    Raises:
      InvalidValue: if the network does not end with an output layer, `parts` does not divide the
        batch size, an array has no row for each example, or what is computed for an example depends
        on the others.
    """
    _check_output(network)
    size = len(jax.tree.leaves(batch)[0])
    multiple("learner", "batch_size", size, "output_parts", parts)
    ready = _Split("the batch", prepare(batch), size, _prepared_part(prepare, batch, parts))

    def up_to_output(params):
        features, outputs, after = _body(network, params, state, ready.tree["inputs"], key)
        leaves, others = _inexact(features)
        return leaves, (others, after, _weight(measure, outputs, ready.tree))

    forward, _ = _needed(up_to_output, state.params)
    floats, pull, (others, after, weight) = jax.vjp(forward, state.params, has_aux=True)
    scale = (1.0 if factor is None else factor) / jnp.where(weight > 0, weight, 1.0)
    features = _Split("the inputs of the output layer", _merged(floats, others), size, None)
    rows = split_rows("learner", (features.rows, ready.rows), "output_parts", parts)
    head, reads = _head(network, state, features, ready, rows, key)
    leaves, structure = jax.tree.flatten(state.params)
    read = [x for x, is_read in zip(leaves, reads) if is_read]

    def loss(read, floats, others, batch, key):
        params = jax.tree.unflatten(structure, _replaced(leaves, reads, read))
        measured = measure(head(params, _merged(floats, others), key), batch)
        return measured[0].sums[0] * scale, measured

    def of_part(total, numbered):
        number, rows = numbered
        floats, others = _inexact(features.whole(rows[0]))
        gradient = jax.grad(loss, (0, 1), has_aux=True)
        (own, of_floats), measured = gradient(
            read, floats, others, ready.whole(rows[1]), jax.random.fold_in(key, number)
        )
        total = [total + x.astype(total.dtype) for total, x in zip(total, own)]
        return total, (of_floats, measured)

    # In half precision, a sum of many parts would lose the small ones.
    zeros = [jnp.zeros(x.shape, at_least_float32(x.dtype)) for x in read]
    total, (of_floats, measured) = lax.scan(of_part, zeros, (jnp.arange(parts), rows))
    (values,) = pull(_joined_rows(of_floats))
    added = _replaced([0.0] * len(leaves), reads, total)
    values = [(x + y).astype(x.dtype) for x, y in zip(jax.tree.leaves(values), added)]
    return jax.tree.unflatten(structure, values), after, _summed(measured)


def _check_output(network: Network) -> None:
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


def _refused(problem: str, got: str, expected: str) -> InvalidValue:
    fix = "Leave out output_parts, or use accumulate(learner, parts)"
    return InvalidValue("learner", problem, got=got, expected=expected, fix=fix)


def _prepared_part(prepare: Prepare, batch: Batch, parts: int) -> Any:
    """Returns the shapes of a prepared part of a batch."""
    return jax.eval_shape(lambda: prepare(jax.tree.map(lambda x: x[: x.shape[0] // parts], batch)))


class _Split:
    """A tree, and those of its arrays that have a row for each example.

    They are the arrays that are shorter in the tree of a `part`; without one, all of them.
    """

    def __init__(self, what: str, tree: Any, size: int, part: Any):
        self.tree = tree
        self.leaves, self.structure = jax.tree.flatten(tree)
        shapes = [x.shape for x in jax.tree.leaves(part)]
        self.marks = [part is None] * len(self.leaves)
        if part is not None:
            self.marks = [x.shape != shape for x, shape in zip(self.leaves, shapes)]
        self.rows = [x for x, has_rows in zip(self.leaves, self.marks) if has_rows]
        for x in self.rows:
            if x.shape[:1] != (size,):
                raise _refused(
                    f"{what} cannot be split into parts",
                    got=f"an array of shape {list(x.shape)} for {size} examples",
                    expected=f"a row for each example, [{size}, ...]",
                )

    def whole(self, rows: list[Any]) -> Any:
        """Returns the tree of a part, given its rows."""
        return jax.tree.unflatten(self.structure, _replaced(self.leaves, self.marks, rows))


def _weight(measure: Measure, outputs: Any, batch: Batch) -> Any:
    """Returns the total weight of a batch; raises `InvalidValue` if it depends on the outputs."""
    weight, (reads,) = _needed(lambda outputs: measure(outputs, batch)[0].sums[1], outputs)
    for x, is_read in zip(jax.tree.leaves(outputs), reads):
        if is_read and jnp.issubdtype(x.dtype, jnp.inexact):
            raise _refused(
                "the weights of the loss depend on the outputs",
                got="weights that are computed from outputs",
                expected="weights that are known before the outputs are computed",
            )
    return weight(outputs)


def _body(network: Network, params: Params, state: Any, inputs: Any, key: Any) -> Any:
    """Returns the inputs of the output layer, the outputs, and the network's state."""
    captured = capture(network, [OUTPUT], inputs=True)
    (outputs, features), after = captured.apply(params, state.state, inputs, key=key)
    return features[OUTPUT], outputs, after


def _head(
    network: Network, state: Any, features: _Split, ready: _Split, rows: Any, key: Any
) -> tuple[Callable[..., Any], list[bool]]:
    """Returns the outputs as a function `(params, features, key) -> outputs`.

    The features are the inputs of the output layer. Returned with the function is whether it reads
    each leaf of the parameters. Raises `InvalidValue` if the outputs also depend on the inputs of
    the network.
    """

    def tail(params, features, key, inputs):
        with inside(_Features(features)):
            return apply_inner(network, params, state.state, inputs, key)[0]

    def first(rows):
        return features.whole(rows[0]), ready.whole(rows[1])["inputs"]

    part, inputs = jax.eval_shape(lambda rows: first(jax.tree.map(lambda x: x[0], rows)), rows)
    head, (reads, _, _, others) = _needed(tail, state.params, part, key, inputs)
    if any(others):
        raise _refused(
            "the outputs of the network are not those of its output layer",
            got="outputs that also depend on the inputs of the network in another way",
            expected="a network that computes nothing else after the output layer",
        )
    return head, reads


def _needed(function: Callable[..., Any], *given: Any) -> tuple[Callable[..., Any], Any]:
    """Returns what `programs.needed` does; raises `InvalidValue` if there are side effects."""
    reduced, reads, effects = needed(function, *given)
    if effects:
        raise _refused(
            "side effects would occur more than once",
            got=f"{listing(sorted(map(str, effects)))}, as of jax.debug.print",
            expected="a network and a loss without them",
        )
    return reduced, reads


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

        def layer(features):
            return proceed(params, state, features, key, within=None)

        # The inputs are those of a batch as small as the part.
        shapes = [[x.shape for x in jax.tree.leaves(tree)] for tree in (self.features, inputs)]
        if shapes[0] != shapes[1]:
            raise _refused(
                "the inputs of the output layer cannot be split into parts",
                got=f"shapes {listing(map(str, shapes[0]))} from rows of the batch, and"
                f" {listing(map(str, shapes[1]))} from a smaller batch",
                expected="a row for each example, [batch, ...]",
            )
        outputs, after = layer(self.features)
        if jax.tree.leaves(after) and any(_needed(lambda x: layer(x)[1], self.features)[1][0]):
            raise _refused(
                "the output layer computes statistics of a batch",
                got="a state that depends on its inputs, as of batch_norm",
                expected="an output layer that treats each example alone",
            )
        return outputs, after


def _replaced(leaves: list[Any], marks: list[bool], new: list[Any]) -> list[Any]:
    """Returns the leaves, with the marked ones replaced by `new`, in order."""
    each = iter(new)
    return [next(each) if is_marked else x for x, is_marked in zip(leaves, marks)]


def _joined_rows(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), tree)


def _summed(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.sum(0), tree)


def _inexact(tree: Any) -> tuple[Any, Any]:
    """Splits a tree in two: with the arrays that have a gradient, and with all others."""
    leaves, structure = jax.tree.flatten(tree)
    has = [jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]
    floats = (x if is_float else None for x, is_float in zip(leaves, has))
    others = (None if is_float else x for x, is_float in zip(leaves, has))
    return jax.tree.unflatten(structure, floats), jax.tree.unflatten(structure, others)


def _merged(floats: Any, others: Any) -> Any:
    return jax.tree.map(
        lambda x, y: y if x is None else x, floats, others, is_leaf=lambda x: x is None
    )
