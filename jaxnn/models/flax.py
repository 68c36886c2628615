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
    >>> to_flax(nnx.Linear, params, in_features=2, out_features=3)(jnp.ones((1, 2))).shape
    (1, 3)

What a model leaves for others to look at (`sow`) is neither parameter nor state, and is dropped.
What an NNX model holds as a bare array, not in an `nnx.Variable`, is a constant of the model.
"""

import dataclasses
import inspect
import itertools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.checks import Invalid, InvalidType, InvalidValue, is_concrete
from jaxnn.masked import refuse_masked
from jaxnn.network import Network, Parts
from jaxnn.typing import Any, Callable, Params, State

# What authors of Flax models call the switch of the mode, and whether it is on in training.
_SWITCHES = {"train": True, "training": True, "is_training": True}
_SWITCHES |= {"deterministic": False, "use_running_average": False}


def from_flax(model: Any, /, **arguments: Any) -> Network:
    """Makes a network of a Flax model; the inputs are the one argument that the model is called on.

    A model that takes `train`, `training`, `is_training`, or the inverse, `deterministic` or
    `use_running_average`, receives the mode so. In inference the state is returned as given. In
    training NNX stream number i, by name, is `fold_in(key, i)`; the Linen stream `dropout` is the
    key, any other starts from `fold_in(key, 1)`.

    Args:
      model: a class or function that makes an `nnx.Module`: `init` calls
        `model(**arguments, rngs=nnx.Rngs(key))`. Or an `nnx.Module`, to continue its training:
        `init` copies its present parameters, whatever the key; the module itself is never changed.
        Or a Linen module: `init` is its own, in inference mode, without `nn.Partitioned` boxes.
      **arguments: what the class or function is called with.

    Raises:
      InvalidType: if `model` is not a Flax model, is a Linen class, or does not take `arguments`.
        From `apply`, for NNX: if parameters are not the model's; their path is named.
      InvalidValue: if there are arguments for a model that is an instance already.
    """
    if _is_linen("from_flax", model, arguments):
        return _linen_network(model)
    return _nnx_network(_take_apart("from_flax", model, arguments), arguments)


def to_flax(model: Any, /, params: Params, state: State | None = None, **arguments: Any) -> Any:
    """Gives trained parameters, and their state, back to Flax; the inverse of `flax_parameters`.

    `model` and `**arguments` are what `from_flax` was given; no `state` is `{}`.

    Returns:
      For NNX, a new `nnx.Module` in inference mode, ready to predict (call its `train()` to
      continue training), with random streams from `key(0)`. For Linen,
      `{"params": params, **state}`.

    Raises:
      InvalidType: as `from_flax`; or, for NNX, if an array is missing or is not the model's.
      InvalidValue: as `from_flax`; or, for NNX, if an array has another shape in the model.
    """
    if _is_linen("to_flax", model, arguments):
        return {"params": params, **(state or {})}
    parts = _take_apart("to_flax", model, arguments)
    return _assemble("to_flax", parts, params, state or {}, check_shapes=True)


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
    if isinstance(source, _flax().nnx.Module):
        return _split("flax_parameters", source)
    if isinstance(source, Mapping) and "params" in source:
        return _collections(source)
    expected = 'an nnx.Module, or variables {"params": ...} of a Linen module'
    fix = "Pass the module, or what Linen's init returned"
    raise _invalid("flax_parameters", "no Flax parameters are here", source, expected, fix)


def _linen_network(model: Any) -> Network:
    def init(key, inputs):
        switch, inputs = _switch(model, training=False), jax.eval_shape(lambda x: x, inputs)
        shapes = jax.eval_shape(lambda key, inputs: model.init(key, inputs, **switch), key, inputs)
        params, state = _collections(shapes)
        # lazy_init computes what depends on the key alone, so the inputs need only have a shape.
        mutable = [*state, "params"] if params else [*state]
        return _collections(model.lazy_init(key, inputs, mutable=mutable, **switch))

    def apply(params, state, inputs, *, key=None):
        refuse_masked("from_flax", inputs)
        variables, switch = {"params": params, **state}, _switch(model, training=key is not None)
        if key is None:
            return model.apply(variables, inputs, **switch), state
        streams = {"dropout": key, "params": jax.random.fold_in(key, 1)}
        outputs, after = model.apply(variables, inputs, rngs=streams, mutable=[*state], **switch)
        return outputs, _like(state, after)

    fields = [field for field in dataclasses.fields(model) if field.name not in ("parent", "name")]
    values = {field.name: (getattr(model, field.name), field.default) for field in fields}
    chosen = {name: value for name, (value, default) in values.items() if value is not default}
    return Network(init, apply, _parts(type(model), chosen))


def _collections(variables: Any) -> tuple[Params, State]:
    flax = _flax()
    tree = flax.core.unfreeze(flax.core.meta.unbox(variables))
    for name, values in list(tree.items()):
        # What sow leaves are tuples, longer with every call.
        leaves = flax.traverse_util.flatten_dict(values).values()
        if not leaves or any(isinstance(leaf, tuple) for leaf in leaves):
            del tree[name]
    return tree.pop("params", {}), tree


class _Module(NamedTuple):
    """An NNX model taken apart, once, into what every trace puts together again."""

    build: Callable[[Any], Any]  # key -> the module, with its initial variables
    shapes: dict[str, dict[Any, Any]]  # {"params": {path: shape}, "state": ..., "streams": ...}
    kind: Any  # its class
    graphs: list[Any]  # all that is not an array, in inference and in training mode
    constants: dict[Any, Any]  # {path: bare array}
    paths: dict[Any, Any]  # {path of strings: path in Flax, where numbers are integers}


def _nnx_network(model: _Module, arguments: dict[str, Any]) -> Network:
    call = inspect.signature(model.kind.__call__).parameters
    # A model that takes random streams when it is called, and keeps none of its own, is given them.
    takes_rngs = "rngs" in call and not (model.shapes["streams"] and call["rngs"].default is None)

    def init(key, inputs):
        trees = _split("from_flax", model.build(key))
        # Copies, since they may be donated; with their dtype said, the type is no longer weak.
        return jax.tree.map(lambda value: jnp.array(value, jnp.asarray(value).dtype), trees)

    def apply(params, state, inputs, *, key=None):
        refuse_masked("from_flax", inputs)
        module = _assemble("from_flax", model, params, state, key)
        options = _switch(module, training=key is not None)
        if takes_rngs:
            options["rngs"] = _flax().nnx.Rngs(jax.random.key(0) if key is None else key)
        outputs = module(inputs, **options)
        return outputs, state if key is None else _like(state, _split("from_flax", module)[1])

    return Network(init, apply, _parts(model.kind, arguments))


def _take_apart(where: str, model: Any, arguments: dict[str, Any]) -> _Module:
    nnx, static = _flax().nnx, []

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
        module, graphs = build(key), []
        by_role, paths = _arrays(where, module)
        for enter_mode in (module.eval, module.train):
            enter_mode()
            graphs.append(nnx.split(module)[0])
        static[:] = type(module), graphs, by_role.pop("constants"), paths
        return by_role

    try:
        shapes = jax.eval_shape(record, jax.random.key(0))
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        wrong = "the model cannot be built in a compiled program"
        expected = "a constructor that reads no values of JAX arrays (let it use NumPy)"
        fix = f"Pass an instance: {where}(Model(..., rngs=nnx.Rngs(0)))"
        raise _invalid(where, wrong, model, expected, fix) from error
    # A bare array that is created in the trace is a tracer, and must be created again outside.
    # Flax 0.12 takes it for an attribute, and a graph with a tracer has no hash; 0.11 for an array.
    try:
        concrete = hash(tuple(static[1])) is not None and all(map(is_concrete, static[2].values()))
    except TypeError:
        concrete = False
    if not concrete:
        shapes = jax.eval_shape(lambda x: x, record(jax.random.key(0)))
    return _Module(build, shapes, *static)


def _assemble(where, model: _Module, params, state, key=None, check_shapes: bool = False) -> Any:
    nnx, arrays = _flax().nnx, dict(model.constants)
    for role, tree in (("params", params), ("state", state)):
        arrays |= _matched(where, role, tree, model.shapes[role], check_shapes)
    root, number = jax.random.key(0) if key is None else key, itertools.count()
    for path, shape in model.shapes["streams"].items():
        if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
            stream = jax.random.fold_in(root, next(number))
            arrays[path] = jax.random.split(stream, shape.shape) if shape.shape else stream
        else:  # how many keys the stream has given
            arrays[path] = jnp.zeros(shape.shape, shape.dtype)
    flat = {flax_path: arrays[path] for path, flax_path in model.paths.items()}
    return nnx.merge(model.graphs[key is not None], nnx.from_flat_state(flat))


def _arrays(where: str, module: Any) -> tuple[dict[str, Any], dict[Any, Any]]:
    """Returns `{role: {path: array}}` of a module, and the path in Flax of every array."""
    nnx = _flax().nnx
    roles = {"params": nnx.Param, "streams": nnx.RngState, "state": nnx.Variable}
    by_role, paths = {role: {} for role in (*roles, "constants")}, {}
    for flax_path, leaf in nnx.to_flat_state(nnx.state(module)):
        if not isinstance(leaf, nnx.Intermediate):
            path, arrays = tuple(map(str, flax_path)), jax.tree.leaves(leaf)
            if len(arrays) != 1:
                wrong = f"the variable {'/'.join(path)} holds {len(arrays)} arrays"
                fix = "Make a variable of each of them"
                raise _invalid(where, wrong, leaf, "one array in every variable", fix)
            role = next((role for role in roles if isinstance(leaf, roles[role])), "constants")
            by_role[role][path], paths[path] = arrays[0], flax_path
    return by_role, paths


def _split(where: str, module: Any) -> tuple[Params, State]:
    by_role, _ = _arrays(where, module)
    params, state = map(_flax().traverse_util.unflatten_dict, (by_role["params"], by_role["state"]))
    return params, state


def _matched(where: str, role: str, tree: Any, shapes: Any, check_shapes: bool) -> dict[Any, Any]:
    """Returns the leaves of `tree` by path; raises unless the paths are those of the model."""
    flatten = _flax().traverse_util.flatten_dict
    flat = flatten(tree) if isinstance(tree, Mapping) else {(): tree}
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


def _flax() -> Any:
    import flax.nnx  # here, so that importing jaxnn does not import Flax

    return flax


def _switch(model: Any, training: bool) -> dict[str, Any]:
    names = inspect.signature(type(model).__call__).parameters
    return {name: on is training for name, on in _SWITCHES.items() if name in names}


def _parts(kind: Any, settings: Mapping[str, Any]) -> Parts:
    shown = ((name, getattr(value, "__name__", value)) for name, value in settings.items())
    return Parts(kind.__name__, tuple(shown))


def _like(old: Any, new: Any) -> Any:
    """Returns the values of `new` in the structure and the dtypes of `old`, as a loop needs it."""
    if isinstance(old, Mapping):
        return {name: _like(value, new.get(name, value)) for name, value in old.items()}
    return jnp.asarray(new, old.dtype)


def _is_linen(where: str, model: Any, arguments: dict[str, Any]) -> bool:
    """Returns whether a model is Linen's rather than NNX's; raises unless it is either."""
    linen, nnx = _flax().linen, _flax().nnx
    kind: Any = model if inspect.isclass(model) else None
    title = getattr(model, "__name__", repr(model))
    if isinstance(model, linen.Module | nnx.Module):
        if arguments:
            wrong = f"{', '.join(arguments)}: no arguments are taken by an instance"
            fix = f"Make the {type(model).__name__} with them, or leave them out"
            raise _invalid(where, wrong, model, "a class or a function", fix, InvalidValue)
        return isinstance(model, linen.Module)
    if kind and issubclass(kind, linen.Module):
        wrong, expected = "a Linen class has no settings yet", "a Linen module, an instance of it"
        raise _invalid(where, wrong, model, expected, f"Write {where}({title}(...))")
    if not callable(model) or (kind and not issubclass(kind, nnx.Module)):
        raise _not_a_model(where, model)
    # The signature of an NNX class says nothing: it is that of its metaclass.
    signature = inspect.signature(kind.__init__ if kind else model)
    named = [*signature.parameters.values()][bool(kind) :]
    try:
        signature.replace(parameters=named).bind(**arguments, rngs=None)
    except TypeError as error:
        wrong = f"{title}: {str(error).removeprefix('inspect.Signature.bind() ')}"
        names = {p.name: p.default is p.empty and p.kind not in (2, 4) for p in named}
        expected = f"some of {', '.join(names)}; rngs come from the key of init"
        needed = [f", {name}=..." for name in names if names[name] and name != "rngs"]
        fix = f"Write {where}({title}{''.join(needed)}), where {title} takes rngs"
        raise _invalid(where, wrong, arguments, expected, fix) from None
    return False


def _not_a_model(where: str, model: Any) -> Invalid:
    expected = "an nnx.Module, its class, a function that makes one, or a Linen module"
    fix = "Subclass flax.nnx.Module, or make a network of a function with stateless(...)"
    return _invalid(where, "this is not a Flax model", model, expected, fix)


def _invalid(where, wrong, given, expected, fix, error: Any = InvalidType) -> Invalid:
    got = getattr(given, "__name__", f"a {type(given).__name__}")
    got += f" of shape {jnp.shape(given)}" if isinstance(given, jax.Array) else ""
    got = f"{{{', '.join(given)}}}" if isinstance(given, dict) else got
    return error(where, wrong, got=got, expected=expected, fix=fix)
