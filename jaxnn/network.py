"""A neural network is two pure functions over its parameters: `init` and `apply`.

Every network is such a pair: a single layer, a stack of layers, or a model from another library. So
networks are built from networks:

    serial(linear(64), activation(jax.nn.relu), linear(10))     # one after the other
    residual(serial(...))                                       # inputs + network(inputs)
    parallel(left, right)                                       # side by side, on the same inputs

Every network satisfies this contract, which `tests/network/test_laws.py` tests:

- `init(key, inputs)` reads only the shapes and dtypes of `inputs`, and returns `(params, state)`.
  `params` are the trainable arrays, `state` the non-trainable ones, such as running statistics
  (often `{}`). Both are plain nested dicts of arrays.
- `apply(params, state, inputs, *, key=None)` returns `(outputs, state)`. A key means training, and
  is the source of all randomness. Without a key it is inference: deterministic, and the state does
  not change.
- The leading axis of inputs and outputs is the batch.

    >>> import jax, jax.numpy as jnp
    >>> double = stateless(lambda params, inputs: params["factor"] * inputs,
    ...                    lambda key, inputs: {"factor": jnp.float32(2)})
    >>> network = serial(double, ("again", double))
    >>> params, state = network.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> sorted(params)
    ['0', 'again']
    >>> network.apply(params, state, jnp.ones((1, 3)))[0].tolist()
    [[4.0, 4.0, 4.0]]
"""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import jax

from jaxnn import display
from jaxnn.calls import apply_part, init_part, join, passes_inputs
from jaxnn.checks import Invalid, InvalidType, InvalidValue, kind
from jaxnn.masked import map_places, per_place, refuse_masked
from jaxnn.typing import Any, Callable, Params, State

Init = Callable[[Any, Any], tuple[Params, State]]


@runtime_checkable
class Apply(Protocol):
    """The forward pass of a network."""

    def __call__(
        self, params: Params, state: State, inputs: Any, *, key: Any = None
    ) -> tuple[Any, State]:
        """Returns `(outputs, state)`; a key means training."""
        ...


class Parts(NamedTuple):
    """A description of a network's structure, for tables and pictures; computation ignores it.

    Attributes:
      kind: the kind of network, such as `"linear"`.
      settings: its arguments, such as `(("features", 64),)`.
      children: the named sub-networks in order. The name `""` adds no level to parameter names, as
        inside a transform.
      times: the number of repetitions of the children, each with separate parameters.
      flow: how data flow through the children: `"serial"` from each to the next, `"parallel"` from
        the inputs to each, `"layer"` if the children are the projections inside one layer,
        `"called"` if the parts are named only when they are called, as the submodules of a Flax
        model, and `""` otherwise.
    """

    kind: str = "network"
    settings: tuple[tuple[str, Any], ...] = ()
    children: tuple[tuple[str, "Network"], ...] = ()
    times: int = 1
    flow: Literal["serial", "parallel", "layer", "called", ""] = ""


class Network(NamedTuple):
    """A pair of pure functions, `init` and `apply`, that map inputs to outputs.

    The contract of both functions is described in the docstring of this module.

    Attributes:
      init: `(key, inputs) -> (params, state)`.
      apply: `(params, state, inputs, *, key=None) -> (outputs, state)`.
      parts: a static description of its structure.
    """

    init: Init
    apply: Apply
    parts: Parts = Parts()

    def __repr__(self) -> str:
        return "\n".join(_outline(self))

    def _repr_html_(self) -> str:
        return display.block(display.outline(self))


def _outline(network: Network, name: str = "", indent: str = "") -> list[str]:
    kind, settings, children, *_ = network.parts
    words = ", ".join(f"{key}={value}" for key, value in settings)
    lines = [f"{indent}{name + ': ' if name else ''}{kind}({words})"]
    for child_name, child in children:
        lines += _outline(child, child_name, indent + "  ")
    return lines


def describe(network: Network, kind: str, **settings: Any) -> Network:
    """Returns the same network with a new kind and settings in its description.

    Lists become tuples, since a network must be hashable to be a static argument of `jax.jit`.
    """
    fixed = ((name, tuple(x) if isinstance(x, list) else x) for name, x in settings.items())
    return network._replace(parts=network.parts._replace(kind=kind, settings=(*fixed,)))


def stateless(
    apply: Callable[[Any, Any], Any], init: Callable[[Any, Any], Any] = lambda key, inputs: {}
) -> Network:
    """Returns a network from a pure function without state or randomness.

    If the function acts on each position of a sequence separately, wrap the network in
    `per_place(stateless(...))` to accept `Masked` inputs.

    Args:
      apply: `(params, inputs) -> outputs`.
      init: `(key, inputs) -> params`. By default the network has no parameters.
    """

    def whole(params, state, inputs, *, key=None):
        refuse_masked("stateless", inputs)
        return apply(params, inputs), state

    return Network(lambda key, inputs: (init(key, inputs), {}), whole)


def wrap(network: Network, where: str, apply: Apply, init: Init | None, **settings: Any) -> Network:
    """Returns a transformed network whose parts and parameters have the same names.

    `where` is the name of the transform and `settings` are its arguments. `apply` must call the
    network with `apply_inner`. Without `init`, the network's `init` is used. Raises `InvalidType`
    if `network` is not a `Network`.
    """
    kind(where, "network", network, Network, fix="Pass a network, such as mlp([64], 10)")
    init, children = init or network.init, (("", network),)
    return Network(init, passes_inputs(apply), Parts(where, (*settings.items(),), children))


def serial(*networks: Network | tuple[str, Network]) -> Network:
    """Composes networks sequentially: the outputs of each are the inputs of the next.

    Args:
      *networks: the parts in order, each a network or a pair `(name, network)`. The default names
        are the positions `"0"`, `"1"`, .... The parameters of a part are stored under its name.

    Raises:
      InvalidType: if a part is not a network.
      InvalidValue: if two parts have the same name, or there are no parts.
    """
    children = _named_networks("serial", networks)

    def init(key, inputs):
        results: dict[str, tuple[Any, Any]] = {}
        for name, child in children:
            results[name] = init_part(name, child, key, inputs)
            inputs = output_shape(child, *results[name], inputs)
        return collect(results)

    @passes_inputs
    def apply(params, state, inputs, *, key=None):
        after = {}
        for name, child in children:
            inputs, after[name] = apply_part(name, child, params, state, inputs, key)
        return inputs, without_empty(after)

    return Network(init, apply, Parts("serial", (), children, flow="serial"))


def parallel(
    *networks: Network | tuple[str, Network],
    combine: Callable[[tuple[Any, ...]], Any] | None = None,
) -> Network:
    """Applies networks to the same inputs in parallel.

    Args:
      *networks: the branches, each a network or a pair `(name, network)`.
      combine: combines the tuple of outputs into one output, such as
        `lambda outputs: jnp.concatenate(outputs, -1)`. By default the output is the tuple. For
        `Masked` outputs it combines the values, position by position.

    Raises:
      InvalidType: if a branch is not a network.
      InvalidValue: if two branches have the same name, or there are no branches; when traced, if
        `combine` raises an error for the outputs.
    """
    children = _named_networks("parallel", networks)

    def init(key, inputs):
        return collect({name: init_part(name, child, key, inputs) for name, child in children})

    @passes_inputs
    def apply(params, state, inputs, *, key=None):
        outputs, after = {}, {}
        for name, child in children:
            outputs[name], after[name] = apply_part(name, child, params, state, inputs, key)
        return _combined(combine, outputs), without_empty(after)

    name = getattr(combine, "__name__", "<lambda>").strip("_")
    settings = () if name == "<lambda>" else (("combine", name),)
    return Network(init, apply, Parts("parallel", settings, children, flow="parallel"))


def residual(network: Network, shortcut: Network | None = None) -> Network:
    """Adds a network's outputs to its inputs: `inputs + network(inputs)`.

    Args:
      network: the residual branch; its outputs must have the shape of the shortcut's outputs.
      shortcut: the network applied to the inputs before the sum, for instance to change their
        shape; the identity by default.

    Raises:
      InvalidValue: when traced, if the two shapes differ.

    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, eq. (1) and (2),
    https://arxiv.org/abs/1512.03385.
    """

    def add(outputs):
        branch, skip = (jax.tree.map(lambda x: x.shape, side) for side in outputs)
        if branch != skip or not all(hasattr(side, "shape") for side in outputs):
            raise InvalidValue(
                "residual",
                "the branch and the shortcut do not have the same shape",
                got=f"branch {branch} of {network.parts.kind}, and shortcut {skip} of"
                f" {(shortcut or identity).parts.kind}",
                expected="one array each, of equal shapes",
                fix="Give the branch as many features as its inputs, or pass shortcut=linear(n)"
                " (or conv) to match them",
            )
        return outputs[0] + outputs[1]

    identity = describe(per_place(stateless(lambda params, inputs: inputs)), "identity")
    sides = parallel(("branch", network), ("shortcut", shortcut or identity), combine=add)
    return describe(sides, "residual")


def _combined(combine: Callable[[Any], Any] | None, outputs: dict[str, Any]) -> Any:
    if combine is None:
        return tuple(outputs.values())
    try:
        return map_places(lambda *sides: combine(sides), *outputs.values())
    except (TypeError, ValueError) as error:
        # Errors about traced values are not about the shapes of the branches.
        if isinstance(error, Invalid | jax.errors.JAXTypeError):
            raise
        forms = [
            f"{name} {jax.tree.map(lambda x: (x.shape, str(x.dtype)), branch)}"
            for name, branch in outputs.items()
        ]
        raise InvalidValue(
            "parallel",
            "combine cannot combine the branches' outputs",
            got=f"branches {', '.join(forms)} ({str(error).splitlines()[0].rstrip('.')})",
            expected="outputs that combine accepts, usually equal except for their last axis",
            fix="Give the branches outputs of matching shapes, or leave out combine to get a tuple",
        ) from error


def walk(network: Network, path: str = "") -> Iterator[tuple[str, Network]]:
    """Yields `(path, part)` for each part in post-order; the path of the whole network is `""`."""
    for name, child in network.parts.children:
        yield from walk(child, join(path, name))
    yield path, network


def output_shape(network: Network, params: Any, state: Any, inputs: Any) -> Any:
    """Returns the shapes and dtypes of a network's outputs, without computing them."""
    return jax.eval_shape(lambda p, s, x: network.apply(p, s, x)[0], params, state, inputs)


def _named_networks(where: str, networks: Any) -> tuple[tuple[str, Network], ...]:
    pairs: list[Any] = [
        part if type(part) is tuple and len(part) == 2 else (str(number), part)
        for number, part in enumerate(networks)
    ]
    for name, network in pairs:
        if not isinstance(network, Network) or not isinstance(name, str):
            raise InvalidType(
                where,
                f"part {name!r} is not a network",
                got=f"{type(network).__name__} {network!r}",
                expected="a Network or a pair (name, Network)",
                fix="Wrap a function in activation(...) or stateless(...), a Flax model in "
                "from_flax(...)",
            )
    names = [name for name, _ in pairs]
    if not names or len(set(names)) < len(names):
        raise InvalidValue(
            where,
            "parts must have distinct names" if names else "there are no parts",
            got=f"names={names}",
            expected="at least one part, each with a distinct name",
            fix=f"Write {where}(('hidden', linear(64)), ('output', linear(10)))",
        )
    return tuple(pairs)


def collect(results: Mapping[str, tuple[Any, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits `{name: (params, state)}` into two dicts, without empty entries."""
    params, state = ({name: pair[side] for name, pair in results.items()} for side in (0, 1))
    return without_empty(params), without_empty(state)


def without_empty(trees: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the trees that have at least one array, by name."""
    return {name: tree for name, tree in trees.items() if jax.tree.leaves(tree)}
