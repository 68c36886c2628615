"""Interception of submodule calls, which lets a transform change every part of a network.

A network calls its parts with `apply_part`, and a transform calls its inner network with
`apply_inner`. A transform that acts on each part (mixed precision, a summary table, captured
outputs) applies the network inside a *frame*. Every call of a part, however deeply nested, passes
through the frame. So `apply` alone defines what a network computes. `intercept` is the general
frame: it changes parts by their path, such as `"block/hidden"`.

>>> import jax.numpy as jnp
>>> from jaxnn.layers import activation, linear
>>> from jaxnn.network import serial, stateless
>>> network = serial(("hidden", linear(2)), ("activation", activation(jnp.tanh)))
>>> double = stateless(lambda params, inputs: 2 * inputs)
>>> changed = intercept(network, lambda path, part: double if path == "activation" else part)
>>> params, state = network.init(jax.random.key(0), jnp.ones((1, 3)))
>>> sums, _ = linear(2).apply(params["hidden"], {}, jnp.ones((1, 3)))
>>> bool((changed.apply(params, state, jnp.ones((1, 3)))[0] == 2 * sums).all())
True

The active frames are a JAX user context: local to a thread, and part of the cache key of every
jitted function, so that a function is traced separately inside each frame.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Protocol, TypeVar, runtime_checkable
from weakref import WeakSet

import jax
from jax.core import Tracer

from jaxnn.typing import Any, Callable

N = TypeVar("N", bound=Any)  # a Network, whose file imports this one
_FRAMES = jax.make_user_context(())
_PASSING: WeakSet[Any] = WeakSet()
_MULTIPLYING: WeakSet[Any] = WeakSet()


@runtime_checkable
class Frame(Protocol):
    """Intercepts the calls of all parts inside it; hashable, since it is part of cache keys.

    A jitted function is traced once for each distinct frame, so a frame that treats all parts alike
    should not store the path. A frame with the attribute `observes = True` also intercepts the
    calls of submodules inside models of other libraries, see `apply_submodule`. A frame with a
    method `whole_gradient` places the gradients of large output layers, see `whole_gradient`.
    """

    def enter(self, name: str) -> "Frame | None":
        """Returns the frame for the part `name` (`""`: a transform's inner network), or `None`."""
        ...

    def __call__(
        self, part: Any, proceed: Callable[..., Any], params, state, inputs, key
    ) -> tuple[Any, Any]:
        """Computes the called part, and returns `(outputs, state)`.

        `proceed(params, state, inputs, key, within=self)` computes the part through the remaining
        inner frames; `within` is the frame for the part's own parts, or `None`.
        """
        ...


def apply_part(
    name: str, part: Any, params: Any, state: Any, inputs: Any, key: Any
) -> tuple[Any, Any]:
    """Applies a part to the params and state under its name, in a named scope for profiles."""
    with jax.named_scope(name):
        own = params.get(name, {}), state.get(name, {})
        return _call(name, part, *own, inputs, part_key(key, name))


def apply_submodule(name: str, part: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
    """Applies a submodule of a model of another library, through the frames that observe calls.

    `params` and `state` are its own. All other frames apply to the model as a whole.
    """
    with _FRAMES(observers()):
        return apply_part(name, part, {name: params}, {name: state}, inputs, None)


def observers() -> tuple[Frame, ...]:
    """Returns the active frames that intercept the calls of submodules of other libraries."""
    return tuple(frame for frame in _FRAMES.value if getattr(frame, "observes", False))


def apply_inner(network: Any, params: Any, state: Any, inputs: Any, key: Any) -> tuple[Any, Any]:
    """Applies the inner network of a transform, with the path and key of the transform."""
    return _call("", network, params, state, inputs, key)


def init_part(name: str, part: Any, key: Any, inputs: Any) -> tuple[Any, Any]:
    """Initialises a part with a key derived from its name."""
    if isinstance(key, Tracer):
        inputs = as_arrays(inputs)
    return part.init(part_key(key, name), inputs)


def as_arrays(inputs: Any) -> Any:
    """Replaces `ShapeDtypeStruct`s by zeros, so that `init` may compute with the inputs.

    Since `init` depends only on shapes and dtypes, the compiler removes these computations.
    """

    def zeros(x):
        is_shape = isinstance(x, jax.ShapeDtypeStruct)
        is_number = is_shape and not jax.numpy.issubdtype(x.dtype, jax.dtypes.extended)
        return jax.numpy.zeros(x.shape, x.dtype) if is_number else x

    return jax.tree.map(zeros, inputs)


def part_key(key: Any, name: str) -> Any:
    """Derives a part's key from its name, so that it does not depend on its siblings."""
    return None if key is None else jax.random.fold_in(key, zlib.crc32(name.encode()))


def intercept(network: N, change: Callable[[str, N], N]) -> N:
    """Returns the network with each part that it calls replaced by `change(path, part)`.

    `change` returns the part itself, or a network with the same parameters and state, whose parts
    are intercepted too. The path of the whole network is `""`. A transform and its inner network
    have the same path, and both are changed. `init` is unchanged.
    """

    @passes_inputs
    def apply(params, state, inputs, *, key=None):
        with inside(_Change(change)):
            return apply_inner(network, params, state, inputs, key)

    return network._replace(apply=apply)


@dataclass(frozen=True)
class _Change:
    change: Callable[[str, Any], Any]
    path: str = ""
    observes = True

    def enter(self, name: str) -> "_Change":
        return replace(self, path=join(self.path, name))

    def __call__(self, part, proceed, params, state, inputs, key):
        def apply(params, state, inputs, *, key=None):
            return proceed(params, state, inputs, key)

        changed = self.change(self.path, part._replace(apply=apply))
        return changed.apply(params, state, inputs, key=key)


def join(path: str, name: str) -> str:
    """Returns the path of a part: `join("block", "hidden")` is `"block/hidden"`."""
    return f"{path}/{name}".strip("/")


def passes_inputs(apply: Callable[..., Any]) -> Callable[..., Any]:
    """Marks an `apply` that only passes its inputs to its parts, without computing with them.

    `mixed_precision` casts the inputs of every network without this mark, and `capture` records the
    outputs of the parts, not of the whole, of a network with it.
    """
    _PASSING.add(apply)
    return apply


def does_pass_inputs(part: Any) -> bool:
    """Returns whether the `apply` of a network has the mark of `passes_inputs`."""
    return _is_in(_PASSING, part)


def multiplies_by_weight(network: N) -> N:
    """Marks a network that uses its parameter `weight` only as the right operand of `@`.

    `lora` then adds a low-rank update to that product. `apply` may also read the shape and the
    dtype of the weight.
    """
    _MULTIPLYING.add(network.apply)
    return network


def does_multiply_by_weight(part: Any) -> bool:
    """Returns whether a network has the mark of `multiplies_by_weight`."""
    return _is_in(_MULTIPLYING, part)


def _is_in(marked: WeakSet[Any], part: Any) -> bool:
    try:
        return part.apply in marked
    except TypeError:  # not hashable, so not marked
        return False


def frames() -> tuple[Frame, ...]:
    """Returns the active frames, from the outermost to the innermost."""
    return _FRAMES.value


def whole_gradient(weight: Any) -> Any:
    """Returns the weight of an output layer unchanged; the active frames may place its gradient.

    The gradients of the outputs are much larger than that of the weight if there are many outputs,
    such as the tokens of a vocabulary. On several devices, a frame can avoid copies of them.
    """
    for frame in frames():
        place = getattr(frame, "whole_gradient", None)
        weight = weight if place is None else place(weight)
    return weight


@contextmanager
def inside(frame: Frame, among: tuple[Frame, ...] | None = None) -> Iterator[None]:
    """Makes `frame` the innermost frame in this context; `among` replaces the other frames."""
    with _FRAMES((*(_FRAMES.value if among is None else among), frame)):
        yield


def keep_frames(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that always runs inside the frames that are active now.

    The rules of a `jax.custom_vjp` that calls parts need it, since JAX traces them later, for the
    gradient.
    """
    now = _FRAMES.value

    @wraps(function)
    def again(*arguments, **options):
        with _FRAMES(now):
            return function(*arguments, **options)

    return again


def _call(name: str, part: Any, params, state, inputs, key) -> tuple[Any, Any]:
    if not _FRAMES.value:
        return part.apply(params, state, inputs, key=key)
    entered = [inner for frame in _FRAMES.value if (inner := frame.enter(name)) is not None]
    with _FRAMES(()):
        return _through(entered, part, params, state, inputs, key)


def _through(entered: list[Frame], part: Any, params, state, inputs, key) -> tuple[Any, Any]:
    """Computes a part through the entered frames, from the outermost to the innermost."""
    if not entered:
        return part.apply(params, state, inputs, key=key)
    first, *others = entered

    def proceed(params, state, inputs, key, within=first):
        # Frames that `first` has entered itself, for example with a transform, remain active.
        with _FRAMES((*_FRAMES.value, *(() if within is None else (within,)))):
            return _through(others, part, params, state, inputs, key)

    return first(part, proceed, params, state, inputs, key)
