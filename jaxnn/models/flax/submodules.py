"""Submodules of Flax models as parts of a network, in tables, pictures and captured outputs.

A frame that observes calls (see `jaxnn.calls`) intercepts the call of each submodule, named by its
path in the model. Without such a frame, Flax calls its submodules directly. Each submodule is
computed by Flax, with its own parameters: a frame can read them, but not replace them.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps

import jax

from jaxnn.calls import apply_submodule, observers
from jaxnn.models.flax import library
from jaxnn.models.flax.nnx_parts import layers_of
from jaxnn.network import Network, describe
from jaxnn.typing import Any, Callable

# The name of what frames store for submodules: a collection in Linen, and an entry of the state.
SUBMODULES = "submodules"
_LEAF = "_captured"


class LinenCalls:
    """Passes the calls of submodules of one Linen model through the frames that observe them."""

    def __init__(self, updates: bool) -> None:
        """`updates` is whether the model may update variables in inference."""
        self.updates = updates
        self.path: tuple[str, ...] = ()  # of the submodule that is being computed

    def __call__(
        self, layer: Any, proceed: Callable[..., Any], arguments: tuple[Any, ...], options: Any
    ) -> Any:
        """Calls a layer, through the frames if it is a submodule."""
        if not layer.path or layer.path == self.path or not observers():
            return proceed(*arguments, **options)
        outer, trace = self.path, _trace()
        variables = library.core.unfreeze(library.core.meta.unbox(layer.variables))

        def compute(*arguments: Any, **options: Any) -> Any:
            self.path = layer.path
            try:
                if not self.updates or _trace() == trace:
                    return proceed(*arguments, **options)
                # A frame that compiles the call computes a copy, whose updates are dropped.
                module, own = layer.unbind()
                rngs = dict.fromkeys(layer.scope.rngs, jax.random.key(0))
                mutable: Any = library.core.DenyList("params")
                return module.apply(own, *arguments, **options, rngs=rngs, mutable=mutable)[0]
            finally:
                self.path = outer

        params = variables.pop("params", {})
        name, kind = _below(outer, layer.path), type(layer).__name__
        outputs, stored = _call(name, kind, params, variables, compute, arguments, options)
        if jax.tree.leaves(stored) and layer.is_mutable_collection(SUBMODULES):
            layer.put_variable(SUBMODULES, _LEAF, stored)
        return outputs


_LOCK = threading.RLock()
_CALLS: ContextVar["_NnxCalls | None"] = ContextVar("calls", default=None)


class _NnxCalls:
    """The submodules of one NNX module that is called, and what frames have stored for them."""

    def __init__(self, module: Any, updates: bool) -> None:
        self.updates, self.trace = updates, _trace()
        self.path: tuple[str, ...] = ()  # of the submodule that is being computed
        self.stored: dict[str, Any] = {}
        streams = (library.nnx.Rngs, library.nnx.RngStream)
        self.layers = {
            id(layer): (path, layer)
            for path, layer in layers_of(module)
            if path and callable(layer) and not isinstance(layer, streams)
        }

    def __call__(self, original: Callable[..., Any], layer: Any, *arguments: Any, **options: Any):
        path, _ = self.layers.get(id(layer), ((), None))
        if not path or path == self.path or not observers():
            return original(layer, *arguments, **options)
        outer, trace = self.path, _trace()
        params, _, others = library.nnx.state(layer, library.nnx.Param, library.nnx.RngState, ...)

        def compute(*arguments: Any, **options: Any) -> Any:
            self.path = path
            try:
                if not self.updates or _trace() == trace:
                    return original(layer, *arguments, **options)
                # A frame that compiles the call computes a copy, whose updates are dropped.
                graph, variables = library.nnx.split(layer)
                copy = library.nnx.merge(graph, jax.tree.map(lambda x: x, variables))
                return original(copy, *arguments, **options)
            finally:
                self.path = outer

        trees = (jax.tree.leaves(tree) for tree in (params, others))
        own, state = (dict(enumerate(leaves)) for leaves in trees)
        name, kind = _below(outer, path), type(layer).__name__
        outputs, stored = _call(name, kind, own, state, compute, arguments, options)
        if jax.tree.leaves(stored) and trace == self.trace:
            self.stored["/".join(path)] = stored
        return outputs


@contextmanager
def nnx_calls(module: Any, updates: bool) -> Iterator[dict[str, Any]]:
    """Passes the calls of submodules through the frames; yields what the frames store for them.

    Like `nnx.tabulate`, it replaces the method `__call__` of their classes meanwhile.

    Args:
      module: the module that is about to be called.
      updates: whether it may update variables in inference.
    """
    if not observers():
        yield {}
        return
    calls = _NnxCalls(module, updates)
    with _LOCK:
        kinds = {type(layer): type(layer).__call__ for _, layer in calls.layers.values()}
        own = {kind: vars(kind).get("__call__") for kind in kinds}
        for kind, original in kinds.items():
            kind.__call__ = _intercepted(original)
        token = _CALLS.set(calls)
        try:
            yield calls.stored
        finally:
            _CALLS.reset(token)
            for kind, original in own.items():
                if original is None:
                    del kind.__call__
                else:
                    kind.__call__ = original


def _intercepted(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        calls = _CALLS.get()
        if calls is None:  # called in another thread
            return original(layer, *arguments, **options)
        return calls(original, layer, *arguments, **options)

    return call


def _call(
    name: str,
    kind: str,
    params: Any,
    state: Any,
    compute: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> tuple[Any, Any]:
    """Calls a submodule as a part; returns its outputs, and what the frames store as its state."""
    leaves, structure = jax.tree.flatten((arguments, options), is_leaf=lambda x: x is None)
    places = [place for place, leaf in enumerate(leaves) if hasattr(leaf, "dtype")]
    only = len(places) == 1

    def apply(params, state, inputs, *, key=None):
        whole = list(leaves)
        for place, leaf in zip(places, [inputs] if only else inputs, strict=True):
            whole[place] = leaf
        arguments, options = jax.tree.unflatten(structure, whole)
        return compute(*arguments, **options), {}

    part = describe(Network(lambda key, inputs: (params, state), apply), kind)
    arrays = [leaves[place] for place in places]
    return apply_submodule(name, part, params, state, arrays[0] if only else tuple(arrays))


def _below(outer: tuple[str, ...], path: tuple[str, ...]) -> str:
    """Returns the path of a submodule relative to the one that calls it."""
    inside = path[: len(outer)] == outer
    return "/".join(path[len(outer) :] if inside else path)


def _trace() -> Any:
    return library.core.tracers.current_trace()
