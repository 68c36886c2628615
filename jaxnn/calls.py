"""Calls of parts: how a transform reaches every part of a network while the network computes.

A network calls its parts through `apply_part`, and a transform calls the network inside it through
`apply_inner`. What acts on each part (another precision, a table, captured outputs) acts there: it
runs the network inside a *frame*, and every part that is called meanwhile, however deep, goes
through the frame first. So there is one truth about what a network computes, its `apply`.
`intercept` is the general frame: it changes parts by their path, the names from the outside in.

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

The frames are a context of JAX: local to a thread, and part of the key of every compiled function,
so a function that was traced in one frame is traced anew in another.
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
    """What acts on every part that is called inside it; hashable, as part of compilation keys.

    A function that JAX compiles is traced once for each key: a frame that acts alike everywhere
    should not know the path.
    """

    def enter(self, name: str) -> "Frame | None":
        """Returns the frame for a part of that name, `""` for the network inside a transform."""
        ...

    def __call__(
        self, part: Any, proceed: Callable[..., Any], params, state, inputs, key
    ) -> tuple[Any, Any]:
        """Computes a part that is called, from its `params`, `state`, `inputs` and `key`.

        `proceed(params, state, inputs, key, within=self) -> (outputs, state)` computes the part
        through the frames that are further inside; `within` is the frame of its own parts, `None`
        for none.
        """
        ...


def apply_part(
    name: str, part: Any, params: Any, state: Any, inputs: Any, key: Any
) -> tuple[Any, Any]:
    """Applies one part to what is under its name; programs and profiles show the name."""
    with jax.named_scope(name):
        own = params.get(name, {}), state.get(name, {})
        return _call(name, part, *own, inputs, part_key(key, name))


def apply_inner(network: Any, params: Any, state: Any, inputs: Any, key: Any) -> tuple[Any, Any]:
    """Applies the network inside a transform, which has its path and its key."""
    return _call("", network, params, state, inputs, key)


def init_part(name: str, part: Any, key: Any, inputs: Any) -> tuple[Any, Any]:
    """Initialises one part with the key of its name."""
    if isinstance(key, Tracer):
        inputs = as_arrays(inputs)
    return part.init(part_key(key, name), inputs)


def as_arrays(inputs: Any) -> Any:
    """Returns inputs with zeros instead of shapes: an `init` may compute with them.

    Only their shapes and dtypes may matter, so a compiled program computes nothing of them.
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
    """Returns the network with `change(path, part)` applied instead of each part that it calls.

    `change` returns the part, or another network with the same parameters and state; the parts that
    this one calls are intercepted too. The path of the whole is `""`; a transform and the network
    inside it have one path, and both are changed. `init` stays as it is.
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
    """Marks an `apply` that computes nothing from its inputs itself: it passes them to its parts.

    `mixed_precision` rounds the inputs of every network without the mark, and `capture` takes the
    outputs of what is inside one that has it.
    """
    _PASSING.add(apply)
    return apply


def does_pass_inputs(part: Any) -> bool:
    """Returns whether the `apply` of a network has the mark of `passes_inputs`."""
    return _is_in(_PASSING, part)


def multiplies_by_weight(network: N) -> N:
    """Marks a network that multiplies by its parameter `weight` with `@`, and does nothing else.

    `lora` computes a change of that weight beside it. Of the weight, `apply` may read the shape and
    the dtype, too.
    """
    _MULTIPLYING.add(network.apply)
    return network


def does_multiply_by_weight(part: Any) -> bool:
    """Returns whether a network has the mark of `multiplies_by_weight`."""
    return _is_in(_MULTIPLYING, part)


def _is_in(marked: WeakSet[Any], part: Any) -> bool:
    try:
        return part.apply in marked
    except TypeError:  # neither hashable nor ours
        return False


def frames() -> tuple[Frame, ...]:
    """Returns the frames that the caller is inside, the outermost first."""
    return _FRAMES.value


@contextmanager
def inside(frame: Frame, among: tuple[Frame, ...] | None = None) -> Iterator[None]:
    """Adds a frame, further inside than all others, or than those of them that remain: `among`."""
    with _FRAMES((*(_FRAMES.value if among is None else among), frame)):
        yield


def keep_frames(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function as it is called inside the frames of now, also when it is called later.

    The rules of a `jax.custom_vjp` that calls parts need it: JAX traces them for a gradient, after
    the network has been applied.
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
    """Computes a part through frames, from inside those that are further out."""
    if not entered:
        return part.apply(params, state, inputs, key=key)
    first, *others = entered

    def proceed(params, state, inputs, key, within=first):
        # What the frame itself has wrapped the part in, such as a transform, wraps this too.
        with _FRAMES((*_FRAMES.value, *(() if within is None else (within,)))):
            return _through(others, part, params, state, inputs, key)

    return first(part, proceed, params, state, inputs, key)
