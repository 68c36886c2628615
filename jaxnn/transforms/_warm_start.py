"""Warm starts: a network that is initialised with the trained arrays of another network.

Its `init` returns arrays of the other network instead of drawing them; nothing else changes.
Everything that initialises the network therefore starts from them, including an optimizer that
stores averages of the parameters.

>>> import jax, jax.numpy as jnp
>>> from jaxnn.models import mlp
>>> inputs = jax.ShapeDtypeStruct((1, 4), jnp.float32)
>>> params, _ = mlp([8], 5).init(jax.random.key(0), inputs)
>>> started = warm_start(mlp([8], 3), params, inputs, {"output": None})
>>> print(started.table)
name             tree    shape   origin       source
hidden_1/bias    params  (8,)    taken        hidden_1/bias
hidden_1/weight  params  (4, 8)  taken        hidden_1/weight
output/bias      params  (3,)    initialised
output/weight    params  (8, 3)  initialised
                 params  (5,)    not used     output/bias
                 params  (8, 5)  not used     output/weight
>>> bool((started.network.init(jax.random.key(1), inputs)[0]["hidden_1"]["weight"]
...       == params["hidden_1"]["weight"]).all())
True
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, kind
from jaxnn.formatting import aligned
from jaxnn.names import Match, listing, matched, named_leaves, nearest
from jaxnn.network import Network
from jaxnn.transforms._numbered import check_all_blocks, lookup
from jaxnn.typing import Any, Array, Callable, Params, State


class Origin(NamedTuple):
    """Where a leaf of the new network comes from, or that a leaf of the source is not used."""

    name: str  # in the new network; "" for a leaf of the source that is not used
    tree: Literal["params", "state"]
    shape: tuple[int, ...]
    origin: Literal["taken", "changed", "initialised", "not used"]  # changed by a rule's function
    source: str  # its name in the source; "" for one that is initialised


@dataclass(frozen=True)
class Origins:
    """The origin of every leaf of the new network, and the leaves of the source not used."""

    rows: tuple[Origin, ...]
    unused: tuple[Origin, ...]

    def __str__(self) -> str:
        rows = (tuple(map(str, row)) for row in (*self.rows, *self.unused))
        return aligned([Origin._fields, *rows], "<<<<<")

    __repr__ = __str__


class WarmStart(NamedTuple):
    """A network that starts from parameters of another, and a table of the origin of every leaf."""

    network: Network
    table: Origins


class _Taking(NamedTuple):
    """An array of the source for a leaf of the new network, and a function that changes it."""

    pattern: str
    source: str
    array: Any
    change: Callable[[Any, tuple[int, ...]], Any] | None
    leaves: tuple[str, ...]  # names in the source; several if blocks are stacked

    def value(self, leaf: Any) -> Any:
        """Returns the array for a leaf of the new network: a copy, since it may be donated."""
        # By way of the host, so that the program does not depend on the devices of the source.
        array = jnp.array(np.asarray(self.array))
        return array if self.change is None else self.change(array, leaf.shape)


def warm_start(
    network: Network,
    params: Params,
    inputs: Any,
    rules: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
    state: State | None = None,
) -> WarmStart:
    """Returns a network that is initialised with the parameters of another network, the source.

    By default, a leaf of the new network takes the leaf of the source with the same name, shape and
    dtype. If the source has no leaf of that name, it is initialised as usual; if that leaf has
    another shape or dtype, a rule is required. Rules match the names of the new network's leaves,
    as in `jaxnn.names`, and have one of these values:

    - `None`: initialises the leaf.
    - a name, `"layers/*"`: takes the source's leaf of that name. Each `*` stands for the characters
      that the `*` of the pattern matched: `{"body/*": "layers/*"}`. Blocks are renumbered, stacked
      and unstacked by `{"block_{n+1}": "layers/{n}"}`, `{"blocks": "layers/{n}"}` and
      `{"block_{n+1}": "blocks[{n}]"}`, from the first to the last of the source.
    - a function `(array, shape) -> array` of `jax.numpy`: converts the source's leaf to that shape,
      such as `resize(0)` or `lambda array, shape: array.T`.
    - a pair `(name, function)`: both.

    The network's state, such as the running statistics of `batch_norm`, is taken from the source's
    `state` in the same way: without it, normalized features would be wrong until the statistics
    have converged again.

    A network that depends on hyper-parameters can be started inside the function that builds it,
    which is then traced: `learner(lambda h: warm_start(mlp([64], 10, dropout=h["dropout"]), params,
    inputs).network, ...)`.

    The arrays become constants of the program that initialises the network, which costs about a
    second of compilation for every 100 MB, and as much space in a compilation cache. They are read
    then, not by this call: do not change or donate them before.

    Args:
      network: the new network.
      params: the parameters of the source, a pytree of arrays.
      inputs: example inputs of the network `[batch, ...]`, arrays or `jax.ShapeDtypeStruct`s.
      rules: `{pattern: value}`, or pairs, for leaves not to be taken by name; the first match
        counts.
      state: the state of the source; required if the network has a state, `{}` to initialise it.

    Raises:
      InvalidType: if an argument has the wrong type, or a leaf has another dtype.
      InvalidValue: if a leaf has another shape; if a rule matches nothing that earlier rules left,
        names a leaf that the source lacks, or uses fewer blocks than the source has; if the network
        has a state and `state` is not given; if nothing is taken. By the new `init`, if the inputs
        lead to other shapes.
    """
    fix = "Pass mlp([64], 10), from_flax(model), or what a function of hyper-parameters returns"
    kind("warm_start", "network", network, Network, fix=fix)
    shapes = jax.eval_shape(network.init, jax.random.key(0), inputs)
    ours = [named_leaves(tree) for tree in shapes]
    theirs = [named_leaves(params), named_leaves(state)]
    if ours[1] and state is None:
        raise InvalidValue(
            "warm_start",
            "the network has a state, but no state of the source is given",
            got=f"no state for {listing(ours[1])}",
            expected="the state that belongs to the parameters",
            fix="Pass state=run.state.state, or state={} to initialise it",
        )
    matches = matched("warm_start", rules, {**ours[0], **ours[1]})
    takings = []
    for new, source in zip(ours, theirs):
        chosen = {n: _taking(n, matches.get(n), source) for n in new} if source else {}
        takings.append({name: taking for name, taking in chosen.items() if taking is not None})
    for new, taken in zip(ours, takings):
        for name, taking in taken.items():
            _check_fits(name, new[name], taking)
    used = {leaf for taken in takings for taking in taken.values() for leaf in taking.leaves}
    check_all_blocks(_templates(matches), theirs, used)
    if not any(takings):
        raise InvalidValue(
            "warm_start",
            "no array of the source is used",
            got=f"a source with {listing(theirs[0])}",
            expected=f"some of {listing(ours[0])}",
            fix="Map the names in rules: {'hidden_1': 'layers/first'}",
        )

    def init(key, inputs):
        return tuple(map(_replaced, network.init(key, inputs), ours, takings))

    return WarmStart(network._replace(init=init), _origins(ours, theirs, takings))


def resize(*axes: int) -> Callable[[Any, tuple[int, ...]], Array]:
    """Returns a rule for `warm_start` that interpolates linearly along axes of positions.

    It suits parameters that vary smoothly along an axis, such as position embeddings for longer
    sequences, `{"positions": resize(0)}`, or embeddings `[rows, columns, features]` of the patches
    of larger images, `resize(0, 1)`; it does not suit axes without an order, such as nodes,
    features or classes. It computes `jax.image.resize(..., "linear")`: positions are the centres of
    equal intervals, and a smaller number of them average over neighbours.

    Args:
      *axes: the axes whose lengths may differ, from 0.

    Raises:
      InvalidValue: at trace time, if the length of another axis differs.

    Example:
      >>> resize(0)(jnp.array([[0.0], [4.0]]), (4, 1)).tolist()
      [[0.0], [1.0], [3.0], [4.0]]
    """

    def change(array, shape):
        along = [*shape]
        for axis in axes:
            along[axis : axis + 1] = array.shape[axis : axis + 1]
        if array.shape != tuple(along):
            raise InvalidValue(
                "resize",
                "the shapes differ along other axes than the resized ones",
                got=f"an array of shape {array.shape} for shape {tuple(shape)}",
                expected=f"lengths that differ only along the axes {axes}",
                fix="Pass all axes that differ, as in resize(0, 1), or initialise the leaf: None",
            )
        return jax.image.resize(array, shape, "linear")

    return change


def _taking(name: str, match: Match | None, source: dict[str, Any]) -> _Taking | None:
    """Returns the array that a leaf takes by its rule, or by its name if no rule matches it."""
    if match is None:
        return _Taking("", name, source[name], None, (name,)) if name in source else None
    wanted, change = name, None
    match match.value:
        case None:
            return None
        case str(template):
            wanted = match.fill("warm_start", template)
        case (str(template), function) if callable(function):
            wanted, change = match.fill("warm_start", template), function
        case function if callable(function):
            change = function
        case rule:
            raise InvalidType(
                "warm_start",
                "a rule has the wrong type",
                got=f"{match.pattern!r}: {rule!r}",
                expected="the name of a leaf of the source, None, a function (array, shape) ->"
                " array, or a pair (name, function)",
                fix=f"Write {match.pattern!r}: None to initialise",
            )
    taken = lookup(wanted, source)
    if taken is None:
        near = nearest(wanted, source)
        raise InvalidValue(
            "warm_start",
            f"the source has no leaf for {name} by the rule {match.pattern!r}",
            got=repr(wanted),
            expected=f"one of {listing(source)}",
            fix=(f"Did you mean {near!r}? Or put" if near else "Put")
            + f" {name!r}: None before that rule, to initialise it",
        )
    array, names = taken
    return _Taking(match.pattern, wanted, array, change, tuple(names))


def _templates(matches: Mapping[str, Match]) -> dict[str, str]:
    """Returns the name in the source of each rule that has one, by pattern."""
    pairs = (
        (m.pattern, m.value[0] if isinstance(m.value, tuple) else m.value) for m in matches.values()
    )
    return {pattern: name for pattern, name in pairs if isinstance(name, str)}


def _check_fits(name: str, leaf: Any, taking: _Taking) -> None:
    source, change = taking.source, taking.change
    got, wrong = taking.array, f"the source of {name}"
    if change is not None:
        got = jax.eval_shape(lambda: taking.value(leaf))
        wrong = f"the result of the rule {taking.pattern!r} for {name}"
    elif not hasattr(got, "dtype"):
        got = np.asarray(got)
    if not hasattr(got, "shape"):
        raise InvalidType(
            "warm_start",
            f"{wrong} is not one array",
            got=f"a {type(got).__name__}",
            expected=f"an array of shape {leaf.shape}",
            fix="Return the array alone from the function",
        )
    for aspect, error in (("shape", InvalidValue), ("dtype", InvalidType)):
        if getattr(got, aspect) == getattr(leaf, aspect):
            continue
        fix = f"Begin the rules with {name!r}: None to initialise it, or convert it with a function"
        fix += " (array, shape) -> array, such as resize(0) for positions"
        if change:
            fix = f"Return an array of that {aspect} from the function"
        elif aspect == "dtype":
            rule = f"lambda array, shape: array.astype('{leaf.dtype}')"
            rule = rule if source == name else f"({source!r}, {rule})"
            fix = f"Begin the rules with {name!r}: {rule} to convert it"
        elif got.shape[1:] == leaf.shape:
            fix = "Pass one member of the population: jax.tree.map(lambda x: x[0], params)"
        raise error(
            "warm_start",
            f"{wrong} has the wrong {aspect}",
            got=f"{source!r} of {aspect} {getattr(got, aspect)}",
            expected=f"{aspect} {getattr(leaf, aspect)}",
            fix=fix,
        )


def _replaced(drawn: Any, shapes: dict[str, Any], takings: dict[str, _Taking]) -> Any:
    """Returns the initialised tree with the arrays of the source instead of its own."""
    leaves = []
    for name, leaf in named_leaves(drawn).items():
        if name in takings:
            if leaf.shape != shapes[name].shape or leaf.dtype != shapes[name].dtype:
                raise InvalidValue(
                    "warm_start",
                    "the network is initialised with inputs that differ from the example",
                    got=f"{name} of shape {leaf.shape} and dtype {leaf.dtype}",
                    expected=f"shape {shapes[name].shape} and dtype {shapes[name].dtype}",
                    fix="Pass an example of the data as inputs of warm_start",
                )
            leaf = takings[name].value(leaf)
        leaves.append(leaf)
    return jax.tree.unflatten(jax.tree.structure(drawn), leaves)


def _origins(ours: Any, theirs: Any, takings: Any) -> Origins:
    rows, unused = [], []
    for tree, new, source, taken in zip(("params", "state"), ours, theirs, takings):
        left = dict(source)
        for name, leaf in new.items():
            origin, of = "initialised", ""
            if name in taken:
                origin = "taken" if taken[name].change is None else "changed"
                of = taken[name].source
                for each in taken[name].leaves:
                    left.pop(each, None)
            rows.append(Origin(name, tree, leaf.shape, origin, of))
        unused += [Origin("", tree, np.shape(x), "not used", name) for name, x in left.items()]
    return Origins(tuple(rows), tuple(unused))
