"""The bridge to Flax: any NNX or Linen model is a `Network`, and goes back with what it learned.

A Flax model has the parts of a network under other names:

| here              | NNX                                    | Linen                          |
|-------------------|----------------------------------------|--------------------------------|
| `params`          | the `nnx.Param` variables              | the collection `params`        |
| `state`           | all other variables but random streams | `{collection: tree}`, the rest |
| a key: training   | `model.train()`, streams from the key  | `train=True`, `rngs=...`       |
| no key: inference | `model.eval()`                         | `train=False`                  |

So `from_flax` gives a network like any other, and `to_flax` and `flax_parameters` carry parameters
across, bit for bit. Names stay as they are; the number of a layer in a list is a string here.

    >>> from flax import nnx
    >>> network = from_flax(nnx.Linear, in_features=2, out_features=3)
    >>> params, state = network.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> jax.tree.map(jnp.shape, params), state
    ({'bias': (3,), 'kernel': (2, 3)}, {})
    >>> outputs, state = network.apply(params, state, jnp.ones((1, 2)))
    >>> linear = to_flax(nnx.Linear, params, in_features=2, out_features=3)
    >>> bool((linear(jnp.ones((1, 2))) == outputs).all())
    True

What a model leaves for others to look at (`sow`) is neither parameter nor state, and is dropped.
What an NNX model holds as a bare array, not in an `nnx.Variable`, is a constant of the model.
"""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxnn.checks import Invalid, InvalidType, InvalidValue, message
from jaxnn.network import Network, Parts
from jaxnn.typing import Any, Callable, Params, State

# What authors of Flax models call the switch of the mode, and whether it is on in training.
_SWITCHES = {"train": True, "training": True, "is_training": True}
_SWITCHES |= {"deterministic": False, "use_running_average": False}


def from_flax(model: Any, /, **arguments: Any) -> Network:
    """Makes a network of a Flax model; the inputs are the one argument that the model is called on.

    A model that takes `train`, `training`, `is_training`, or the inverse, `deterministic` or
    `use_running_average`, is told the mode so. In inference the state is returned as given. In
    training NNX stream number i is `fold_in(key, i)`; the Linen stream `dropout` is the key, and
    any other starts from `fold_in(key, 1)`.

    Args:
      model: a class or function that makes an `nnx.Module`: `init` calls
        `model(**arguments, rngs=nnx.Rngs(key))`. Or an `nnx.Module`, to go on training it: `init`
        copies its present parameters, whatever the key; the module itself is never changed. Or a
        Linen module: `init` is its own, in inference mode, without `nn.Partitioned` boxes.
      **arguments: what the class or function is called with.

    Raises:
      InvalidType: if `model` is not a Flax model, is a Linen class, or does not take `arguments`.
        From `apply`, for NNX: if parameters are not the model's; their path is named.
      InvalidValue: if there are arguments for a model that is made already.
    """
    if _is_linen("from_flax", model, arguments):
        return _linen_network(model)
    return _nnx_network(_take_apart("from_flax", model, arguments), arguments)


def to_flax(model: Any, /, params: Params, state: State | None = None, **arguments: Any) -> Any:
    """Gives trained parameters back to Flax; the inverse of `flax_parameters`.

    Args:
      model: what `from_flax` was given, and so are `**arguments`.
      params: the parameters, from `init` or from training.
      state: the state that belongs to them; none is `{}`.

    Returns:
      For NNX, a new `nnx.Module` in inference mode, ready to predict (call its `train()` to go on
      training), with random streams from `key(0)`. For Linen, `{"params": params, **state}`.

    Raises:
      InvalidType: as `from_flax`; or, for NNX, if an array is missing or is not the model's.
      InvalidValue: as `from_flax`; or, for NNX, if an array has another shape in the model.
    """
    if _is_linen("to_flax", model, arguments):
        return {"params": params, **(state or {})}
    parts = _take_apart("to_flax", model, arguments)
    return _assemble("to_flax", parts, params, state or {}, None, check_shapes=True)


def flax_parameters(source: Any) -> tuple[Params, State]:
    """Takes `(params, state)` out of a Flax model: its arrays themselves, not copies.

    Args:
      source: an `nnx.Module`, or the variables of a Linen module, `{"params": ..., ...}`.

    Raises:
      InvalidType: if `source` is neither.

    Example:
      >>> flax_parameters({"params": {"w": 1.0}, "batch_stats": {"mean": 2.0}})
      ({'w': 1.0}, {'batch_stats': {'mean': 2.0}})
    """
    if isinstance(source, _nnx().Module):
        found, _ = _arrays("flax_parameters", source)
        return _nested(found["params"]), _nested(found["state"])
    if isinstance(source, Mapping) and "params" in source:
        return _collections(source)
    expected = 'an nnx.Module, or variables {"params": ...} of a Linen module'
    fix = "Pass the module, or what Linen's init returned"
    raise _invalid("flax_parameters", "no Flax parameters are here", source, expected, fix)


def _linen_network(model: Any) -> Network:
    def init(key, inputs):
        inputs, switch = _shapes(inputs), _switch(model, training=False)
        shapes = jax.eval_shape(lambda key, inputs: model.init(key, inputs, **switch), key, inputs)
        params, state = _collections(shapes)
        # lazy_init computes what depends on the key alone, so the inputs need only have a shape.
        kept = [*state, "params"] if params else [*state]
        return _collections(model.lazy_init(key, inputs, mutable=kept, **switch))

    def apply(params, state, inputs, *, key=None):
        variables, switch = {"params": params, **state}, _switch(model, training=key is not None)
        if key is None:
            return model.apply(variables, inputs, **switch), state
        streams = {"dropout": key, "params": jax.random.fold_in(key, 1)}
        outputs, after = model.apply(variables, inputs, rngs=streams, mutable=[*state], **switch)
        return outputs, _like(state, after)

    fields = {f.name: f.default for f in dataclasses.fields(model)}
    values = {name: getattr(model, name) for name in fields if name not in ("parent", "name")}
    chosen = {name: value for name, value in values.items() if value is not fields[name]}
    return Network(init, apply, _parts(type(model), chosen))


def _collections(variables: Any) -> tuple[Params, State]:
    """Returns params and the other collections, but those of tuples: `sow` makes them ever longer."""
    from flax.core import meta, unfreeze

    def sown(tree):
        leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, tuple))
        return any(isinstance(leaf, tuple) for leaf in leaves)

    tree = unfreeze(meta.unbox(variables))
    kept = {name: values for name, values in tree.items() if values and not sown(values)}
    return kept.pop("params", {}), kept


class _Module(NamedTuple):
    """An NNX model taken apart, once, into what every trace puts together again."""

    build: Callable[[Any], Any]  # key -> the module, with its initial variables
    kind: Any  # its class
    graphs: list[Any]  # all that is not an array, in inference and in training mode
    constants: dict[Any, Any]  # {path: bare array}
    paths: dict[Any, Any]  # {path of strings: path in Flax, where numbers are integers}
    shapes: dict[str, dict[Any, Any]]  # {"params": {path: shape}, "state": ..., "streams": ...}


def _nnx_network(model: _Module, arguments: dict[str, Any]) -> Network:
    call = inspect.signature(model.kind.__call__).parameters
    # A model that takes random streams when it is called, and keeps none of its own, is given them.
    takes_rngs = "rngs" in call and not (model.shapes["streams"] and call["rngs"].default is None)

    def init(key, inputs):
        found, _ = _arrays("from_flax", model.build(key))
        # Copies, since they may be donated; with their dtype said, the type is no longer weak.
        found = jax.tree.map(lambda value: jnp.array(value, jnp.asarray(value).dtype), found)
        return _nested(found["params"]), _nested(found["state"])

    def apply(params, state, inputs, *, key=None):
        module = _assemble("from_flax", model, params, state, key)
        options = _switch(module, training=key is not None)
        if takes_rngs:
            options["rngs"] = _nnx().Rngs(jax.random.key(0) if key is None else key)
        outputs = module(inputs, **options)
        if key is None:
            return outputs, state
        return outputs, _like(state, _nested(_arrays("from_flax", module)[0]["state"]))

    return Network(init, apply, _parts(model.kind, arguments))


def _take_apart(where: str, model: Any, arguments: dict[str, Any]) -> _Module:
    nnx = _nnx()

    def build(key):
        if isinstance(model, nnx.Module):
            module = nnx.clone(model)
            nnx.pop(module, nnx.Intermediate)
            return module
        module = model(**arguments, rngs=nnx.Rngs(key))
        if not isinstance(module, nnx.Module):
            raise _not_a_model(where, module)
        return module

    def record(key):
        nonlocal static
        module = build(key)
        found, paths = _arrays(where, module)
        static = type(module), [], found.pop("constants"), paths
        for enter_mode in (module.eval, module.train):
            enter_mode()
            static[1].append(nnx.split(module)[0])
        return found

    static: Any = None
    try:
        shapes = jax.eval_shape(record, jax.random.key(0))
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        wrong = "the model cannot be made in a compiled program"
        expected = "a constructor that reads no values of JAX arrays (let it use NumPy)"
        fix = f"Pass a model that is made: {where}(Model(..., rngs=nnx.Rngs(0)))"
        raise _invalid(where, wrong, model, expected, fix) from error
    # A bare array that is made in the trace is a tracer, and must be made again outside. Flax 0.12
    # takes it for an attribute, and a graph with a tracer has no hash; 0.11 for an array.
    try:
        leaked = any(isinstance(value, Tracer) for value in static[2].values())
        hash(tuple(static[1]))
    except TypeError:
        leaked = True
    if leaked:
        shapes = _shapes(record(jax.random.key(0)))
    return _Module(build, *static, shapes)


def _assemble(
    where: str, model: _Module, params: Any, state: Any, key: Any, check_shapes: bool = False
) -> Any:
    nnx, arrays = _nnx(), dict(model.constants)
    for role, tree in (("params", params), ("state", state)):
        arrays |= _matched(where, role, tree, model.shapes[role], check_shapes)
    root, number = jax.random.key(0) if key is None else key, 0
    for path in model.paths:
        shape = model.shapes["streams"].get(path)
        if shape is not None and jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
            stream = jax.random.fold_in(root, number)
            arrays[path] = jax.random.split(stream, shape.shape) if shape.shape else stream
            number += 1
        elif shape is not None:  # how many keys the stream has given
            arrays[path] = jnp.zeros(shape.shape, shape.dtype)
    flat = {flax_path: arrays[path] for path, flax_path in model.paths.items()}
    return nnx.merge(model.graphs[key is not None], nnx.from_flat_state(flat))


def _arrays(where: str, module: Any) -> tuple[dict[str, Any], dict[Any, Any]]:
    """Returns `{role: {path: array}}` of a module, and the path in Flax of every array."""
    nnx = _nnx()
    roles = {"params": nnx.Param, "streams": nnx.RngState, "state": nnx.Variable}
    found, paths = {role: {} for role in (*roles, "constants")}, {}
    for flax_path, leaf in nnx.to_flat_state(nnx.state(module)):
        if not isinstance(leaf, nnx.Intermediate):
            path, arrays = tuple(map(str, flax_path)), jax.tree.leaves(leaf)
            if len(arrays) != 1:
                wrong = f"the variable {'/'.join(path)} holds {len(arrays)} arrays"
                fix = "Make a variable of each of them"
                raise _invalid(where, wrong, leaf, "one array in every variable", fix)
            role = next((role for role in roles if isinstance(leaf, roles[role])), "constants")
            found[role][path], paths[path] = arrays[0], flax_path
    return found, paths


def _matched(where: str, role: str, tree: Any, shapes: Any, check_shapes: bool) -> dict[Any, Any]:
    """Returns the leaves of `tree` by path; raises unless the paths are those of the model."""
    from flax.traverse_util import flatten_dict

    flat: Any = flatten_dict(tree) if isinstance(tree, Mapping) else {(): tree}
    flat = {tuple(map(str, path)): leaf for path, leaf in flat.items()}
    fix = f"Pass the {role} that init, training or flax_parameters gave for this very model"
    for path in sorted(shapes.keys() | flat.keys()):
        name, expected = "/".join((role, *path)), f"the model's {len(shapes)} arrays of {role}"
        if path not in flat:
            raise _invalid(where, f"{name} is missing", tree, expected, fix)
        if path not in shapes:
            raise _invalid(where, f"{name} is not in the model", flat[path], expected, fix)
        if check_shapes and jnp.shape(flat[path]) != shapes[path].shape:
            wrong, expected = f"{name} has a wrong shape", f"shape {shapes[path].shape}"
            raise _invalid(where, wrong, flat[path], expected, fix, InvalidValue)
    return flat


def _nnx() -> Any:
    from flax import nnx  # here, so that importing jaxnn does not import Flax

    return nnx


def _switch(model: Any, training: bool) -> dict[str, Any]:
    names = inspect.signature(type(model).__call__).parameters
    return {name: on is training for name, on in _SWITCHES.items() if name in names}


def _parts(kind: Any, settings: Mapping[str, Any]) -> Parts:
    shown = ((name, getattr(value, "__name__", value)) for name, value in settings.items())
    return Parts(kind.__name__, tuple(shown))


def _shapes(tree: Any) -> Any:
    return jax.eval_shape(lambda tree: tree, tree)


def _nested(flat: Mapping[Any, Any]) -> Any:
    from flax.traverse_util import unflatten_dict

    return unflatten_dict(flat)


def _like(old: Any, new: Any) -> Any:
    """Returns the values of `new` in the structure and the dtypes of `old`, as a loop needs it."""
    if isinstance(old, Mapping):
        return {name: _like(value, new.get(name, value)) for name, value in old.items()}
    return jnp.asarray(new, old.dtype)


def _is_linen(where: str, model: Any, arguments: dict[str, Any]) -> bool:
    """Returns whether a model is Linen's rather than NNX's; raises unless it is either."""
    from flax import linen

    nnx: Any = _nnx()
    if isinstance(model, linen.Module | nnx.Module):
        if arguments:
            wrong = f"{', '.join(arguments)}: no arguments are taken by a model that is made"
            fix = f"Make the {type(model).__name__} with them, or leave them out"
            raise _invalid(where, wrong, model, "a class or a function", fix, InvalidValue)
        return isinstance(model, linen.Module)
    is_class, title = inspect.isclass(model), getattr(model, "__name__", repr(model))
    if is_class and issubclass(model, linen.Module):
        wrong, expected = "a Linen class has no settings yet", "a Linen module, made of it"
        raise _invalid(where, wrong, model, expected, f"Write {where}({title}(...))")
    if not callable(model) or (is_class and not issubclass(model, nnx.Module)):
        raise _not_a_model(where, model)
    # The signature of an NNX class says nothing: it is that of its metaclass.
    signature = inspect.signature(model.__init__ if is_class else model)
    named = [*signature.parameters.values()][is_class:]
    signature = signature.replace(parameters=named)
    try:
        signature.bind(**arguments, rngs=None)
    except TypeError as error:
        needed = [p.name for p in named if p.default is p.empty and p.kind not in (2, 4)]
        needed = "".join(f", {name}=..." for name in needed if name != "rngs")
        expected = f"arguments for {title}{signature}, where rngs are made of the key of init"
        fix = f"Write {where}({title}{needed})"
        raise _invalid(where, f"{title}: {error}", arguments, expected, fix) from None
    return False


def _not_a_model(where: str, model: Any) -> Invalid:
    expected = "an nnx.Module, its class, a function that makes one, or a Linen module"
    fix = "Subclass flax.nnx.Module, or make a network of a function with stateless(...)"
    return _invalid(where, "this is not a Flax model", model, expected, fix)


def _invalid(where, wrong, given, expected, fix, error: Any = InvalidType) -> Invalid:
    got = getattr(given, "__name__", f"a {type(given).__name__}")
    got += f" of shape {jnp.shape(given)}" if isinstance(given, jax.Array) else ""
    got = f"{{{', '.join(given)}}}" if isinstance(given, dict) else got
    return error(message(where, wrong, got=got, expected=expected, fix=fix))
