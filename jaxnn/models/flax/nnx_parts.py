"""Splits NNX modules into arrays by role, and merges arrays into modules."""

import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidValue, is_concrete
from jaxnn.models.flax import library
from jaxnn.models.flax.modes import values
from jaxnn.models.flax.structure import invalid, not_a_model
from jaxnn.typing import Any, Callable, Params, State

_ROLES = {"params": "Param", "streams": "RngState", "state": "Variable"}  # of library.nnx


class Module(NamedTuple):
    """The static parts of a model, from which each trace assembles the module."""

    build: Callable[[Any], Any]  # returns the module with its initial variables, for a key
    shapes: dict[str, dict[Any, Any]]  # {"params": {path: shape}, "state": ..., "streams": ...}
    kind: Any  # the class of the module
    graphs: list[Any]  # everything that is not an array, in inference and in training mode
    constants: dict[Any, Any]  # {path: bare array}
    paths: dict[Any, Any]  # {path of strings: path in Flax, where numbers are integers}
    caches: list[Any]  # the paths of the variables that are updated in inference
    booleans: dict[str, bool]  # the boolean attributes of the modules
    bare: list[str]  # the paths of floating-point arrays that are in no variable


def take_apart(
    where: str, model: Any, arguments: Mapping[str, Any], settings: Mapping[str, bool] | None = None
) -> Module:
    """Splits a model; `settings` are attributes that set its mode, with their training values."""
    static: list[Any] = []

    def build(key):
        if isinstance(model, library.nnx.Module):
            module = library.nnx.clone(model)
            library.nnx.pop(module, library.nnx.Intermediate)
            return module
        module = model(**arguments, rngs=library.nnx.Rngs(key))
        if not isinstance(module, library.nnx.Module):
            raise not_a_model(where, module)
        return module

    def record(key):
        module, graphs = build(key), []
        by_role, paths, caches = arrays_of(where, module)
        for training, enter_mode in ((False, module.eval), (True, module.train)):
            enter_mode(**values(settings or {}, training))
            graphs.append(library.nnx.split(module)[0])
        static[:] = type(module), graphs, by_role.pop("constants"), paths, caches
        static.extend(_attributes(module))
        return by_role

    try:
        shapes = jax.eval_shape(record, jax.random.key(0))
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        wrong = "the model cannot be built in a compiled program"
        expected = "a constructor that reads no values of JAX arrays (let it use NumPy)"
        fix = f"Pass an instance: {where}(Model(..., rngs=nnx.Rngs(0)))"
        raise invalid(where, wrong, model, expected, fix) from error
    # A bare array that is created in the trace is a tracer, and must be created again outside. In
    # Flax 0.12 it is an attribute, and a graph with a tracer has no hash; in 0.11 it is an array.
    try:
        concrete = hash(tuple(static[1])) is not None and all(map(is_concrete, static[2].values()))
    except TypeError:
        concrete = False
    if not concrete:
        shapes = jax.eval_shape(lambda x: x, record(jax.random.key(0)))
    return Module(build, shapes, *static)


def _attributes(module: Any) -> tuple[dict[str, bool], list[str]]:
    booleans, bare = {}, []
    for path, layer in layers_of(module):
        for name, value in vars(layer).items():
            if isinstance(value, bool):
                booleans[name] = value
            if isinstance(value, jax.Array | np.ndarray) and jnp.issubdtype(
                value.dtype, jnp.floating
            ):
                bare.append("/".join((*path, name)))
    return booleans, bare


def assemble(
    where: str,
    model: Module,
    params: Any,
    state: Any,
    key: Any = None,
    *,
    training: bool = False,
    check_shapes: bool = False,
) -> Any:
    """Assembles the module of a model in a mode, with random streams derived from the key."""
    arrays = dict(model.constants)
    for role, tree in (("params", params), ("state", state)):
        arrays |= _matched(where, role, tree, model.shapes[role], check_shapes)
    root, number = jax.random.key(0) if key is None else key, itertools.count()
    for path, shape in model.shapes["streams"].items():
        if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
            stream = jax.random.fold_in(root, next(number))
            arrays[path] = jax.random.split(stream, shape.shape) if shape.shape else stream
        else:  # the number of keys that the stream has given
            arrays[path] = jnp.zeros(shape.shape, shape.dtype)
    flat = {flax_path: arrays[path] for path, flax_path in model.paths.items()}
    return library.nnx.merge(model.graphs[training], library.nnx.from_flat_state(flat))


def arrays_of(
    where: str, module: Any, known: Mapping[Any, Any] | None = None
) -> tuple[dict[str, Any], dict[Any, Any], list[Any]]:
    """Returns `{role: {path: array}}` of a module, the Flax path of each array, and the caches.

    With `known`, variables with other paths, which a call has added, are omitted.
    """
    by_role, paths, caches = {role: {} for role in (*_ROLES, "constants")}, {}, []
    for flax_path, leaf in library.nnx.to_flat_state(library.nnx.state(module)):
        path, arrays = tuple(map(str, flax_path)), jax.tree.leaves(leaf)
        if isinstance(leaf, library.nnx.Intermediate) or (known is not None and path not in known):
            continue
        if len(arrays) != 1:
            wrong = f"the variable {'/'.join(path)} holds {len(arrays)} arrays"
            fix = "Store each array in a variable of its own"
            raise invalid(where, wrong, leaf, "one array in every variable", fix)
        roles = (role for role, name in _ROLES.items() if _is(leaf, name))
        role = next(roles, "constants")
        by_role[role][path], paths[path] = arrays[0], flax_path
        if isinstance(leaf, library.nnx.Cache):
            caches.append(path)
    return by_role, paths, caches


def _is(leaf: Any, name: str) -> bool:
    return isinstance(leaf, getattr(library.nnx, name))


def layers_of(module: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields the module itself and each nested module, with its path."""
    for path, node in library.nnx.iter_graph(module):
        if isinstance(node, library.nnx.Module):
            yield tuple(map(str, path)), node


def split(where: str, module: Any, known: Mapping[Any, Any] | None = None) -> tuple[Params, State]:
    """Splits a module into `(params, state)`."""
    by_role, *_ = arrays_of(where, module, known)
    unflatten = library.traverse_util.unflatten_dict
    return unflatten(by_role["params"]), unflatten(by_role["state"])


def _matched(where: str, role: str, tree: Any, shapes: Any, check_shapes: bool) -> dict[Any, Any]:
    """Returns the leaves of `tree` by path; raises unless the paths match those of the model."""
    flatten = library.traverse_util.flatten_dict
    flat = flatten(tree) if isinstance(tree, Mapping) else {(): tree}
    flat = {tuple(map(str, path)): leaf for path, leaf in flat.items()}
    fix = f"Pass the {role} of this model, from init, training or flax_parameters"
    for path in sorted(shapes.keys() | flat.keys()):
        name, expected = "/".join((role, *path)), f"the model's {len(shapes)} arrays of {role}"
        if path not in flat:
            raise invalid(where, f"{name} is missing", tree, expected, fix)
        if path not in shapes:
            raise invalid(where, f"{name} is not in the model", flat[path], expected, fix)
        if check_shapes and jnp.shape(flat[path]) != shapes[path].shape:
            wrong, expected = f"{name} has a wrong shape", f"shape {shapes[path].shape}"
            raise invalid(where, wrong, flat[path], expected, fix, InvalidValue)
    return flat
