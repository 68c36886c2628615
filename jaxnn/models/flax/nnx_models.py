"""NNX models: `params` are the `nnx.Param` variables, `state` all others except random streams.

Variables of the type `nnx.Cache` are updated in inference too; the others are updated in training
only. Values that a call stores in new variables (`sow`) are returned with the outputs if `sown`
names them. A bare array, which is in no `nnx.Variable`, is a constant of the model.
"""

import warnings

import jax
import jax.numpy as jnp

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.models.flax import library
from jaxnn.models.flax.axes import AxisNames
from jaxnn.models.flax.calling import (
    Calling,
    Options,
    call_parameters,
    read_call,
    unknown_setting,
)
from jaxnn.models.flax.modes import FLAGS, check_reactions, fixed_setting
from jaxnn.models.flax.nnx_parts import Module, assemble, layers_of, split, take_apart
from jaxnn.models.flax.structure import (
    cast_like,
    check_precision,
    described,
    left_values,
    sown_names,
    sown_nothing,
    with_submodules,
)
from jaxnn.models.flax.submodules import SUBMODULES, nnx_calls
from jaxnn.names import listing
from jaxnn.network import Network
from jaxnn.transforms._mixed_precision import computing_dtype
from jaxnn.typing import Any

# The attributes that `train()` and `eval()` set.
_SET = {"deterministic", "use_running_average"}


def nnx_network(where: str, model: Any, arguments: dict[str, Any], options: Options) -> Network:
    """Converts an NNX module, its class, or a function that returns one to a network."""
    sown, axes = sown_names(where, options.sown, (str, type)), AxisNames()
    module = take_apart(where, model, arguments)
    calling = _read_call(where, module, options)
    if calling.settings:
        module = take_apart(where, model, arguments, calling.settings)
    _check_trained(where, module)

    def init(key, inputs):
        trees = split(where, module.build(key))
        # Copies, because the arrays may be donated. The explicit dtype removes weak types.
        return jax.tree.map(lambda value: jnp.array(value, jnp.asarray(value).dtype), trees)

    def apply(params, state, inputs, *, key=None):
        training = key is not None
        updates = not training and bool(module.caches or calling.options.inference_key is not None)

        def compute():
            built = assemble(where, module, params, state, calling.key(key), training=training)
            _check_layers(calling, built)
            before = _variables(built)
            with warnings.catch_warnings():
                # Flax recommends `nnx.capture`, which has the same purpose as `sown`.
                warnings.filterwarnings("ignore", r"Using 'Module.sow\(\)' outside of 'nnx.capture")
                with nnx_calls(built, updates) as stored:
                    outputs = calling(built, inputs, key)
            after = _variables(built)
            changed = {path for path in before if after.get(path) is not before[path]}
            _check_draws(calling, module, changed, key)
            if training and not calling.is_left:
                _check_mode(calling, built, module, changed)
            values = _sown(calling, module, built, sown, training)
            outputs = (outputs, values) if options.sown else outputs
            return outputs, split(where, built, module.paths)[1], stored

        outputs, after, stored = axes(compute)
        after = after if training else _advanced(module, state, after)
        return outputs, cast_like(state, after) | ({SUBMODULES: stored} if stored else {})

    return with_submodules(described(Network(init, apply), module.kind, arguments))


def _read_call(where: str, module: Module, options: Options) -> Calling:
    rngs, make_rngs = call_parameters(module.kind).get("rngs"), None
    # A model that takes random streams in its call, and has none of its own, receives them.
    if rngs is not None and not (module.shapes["streams"] and rngs.default is None):
        make_rngs = library.nnx.Rngs
    calling = read_call(where, module.kind, options, make_rngs)
    attributes = module.booleans
    for name in calling.settings:
        if name not in attributes and name not in _SET:
            raise unknown_setting(calling, name, attributes)
    for name in attributes.keys() & (FLAGS.keys() - _SET):
        unsaid = options.switch is None and options.call is None and not options.paired
        if unsaid and name not in calling.flags:
            raise fixed_setting(where, calling.title, name, attributes[name])
    return calling


def _check_trained(where: str, module: Module) -> None:
    """Raises `InvalidType` if all weights of a model are bare arrays."""
    bare = module.bare
    if bare and not module.shapes["params"]:
        raise InvalidType(
            where,
            f"{module.kind.__name__} has nothing to train: its arrays are not in an nnx.Param",
            got=f"bare arrays {listing(bare)}",
            expected="each trainable array in an nnx.Param",
            fix=f"Write self.{bare[0].rsplit('/', 1)[-1]} = nnx.Param(...) in the constructor",
        )


def _check_layers(calling: Calling, built: Any) -> None:
    dtype = computing_dtype()
    for path, layer in layers_of(built) if dtype is not None else ():
        params = [value for value in vars(layer).values() if isinstance(value, library.nnx.Param)]
        own = jax.tree.leaves(params)
        check_precision(calling, "/".join(path), layer, own, [], dtype)


def _variables(built: Any) -> dict[Any, Any]:
    """Returns the values of all variables by path; a variable that changes has a new object."""
    flat = library.nnx.to_flat_state(library.nnx.state(built))
    return {tuple(map(str, path)): next(iter(jax.tree.leaves(leaf)), None) for path, leaf in flat}


def _check_draws(calling: Calling, module: Module, changed: set[Any], key: Any) -> None:
    """Raises `InvalidValue` if a model uses random numbers in inference without a key."""
    drawn = [path for path in module.shapes["streams"] if path in changed]
    if drawn and calling.key(key) is None:
        raise InvalidValue(
            calling.where,
            f"{calling.title} samples random numbers in inference",
            got=f"a random stream {'/'.join(drawn[0][:-1])!r} that is used",
            expected="a deterministic model, or a key",
            fix="Pass inference_key=jax.random.key(0) if it should sample; otherwise let its layers"
            " follow eval(), or name its flag with switch=",
        )


def _check_mode(calling: Calling, built: Any, module: Module, changed: set[Any]) -> None:
    reactions: dict[str, list[bool]] = {"Dropout": [], "BatchNorm": []}
    for path, layer in layers_of(built):
        if isinstance(layer, library.nnx.BatchNorm):
            reactions["BatchNorm"].append((*path, "mean") in changed)
        elif isinstance(layer, library.nnx.Dropout) and layer.rate:
            own = [each for each in module.shapes["streams"] if each[: len(path)] == path]
            if own:
                reactions["Dropout"].append(any(each in changed for each in own))
    called = calling.options.call is not None
    explicit = calling.is_explicit
    check_reactions(calling.where, calling.title, reactions, explicit=explicit, called=called)


def _sown(
    calling: Calling, module: Module, built: Any, sown: tuple[Any, ...], training: bool
) -> dict[str, Any]:
    """Returns the values that a call stored in variables, by the entries of `sown`."""
    flat = [
        (tuple(map(str, path)), leaf)
        for path, leaf in library.nnx.to_flat_state(library.nnx.state(built))
    ]
    taken: dict[str, Any] = {}
    for one in sown:
        name = one if isinstance(one, str) else one.__name__
        added = {
            path: _value(leaf)
            for path, leaf in flat
            if _names(one, path, leaf)
            and not isinstance(leaf, library.nnx.Param | library.nnx.RngState)
        }
        if not added and training:
            kinds = (type(leaf).__name__ for path, leaf in flat if path not in module.paths)
            raise sown_nothing(calling, name, dict.fromkeys(kinds))
        taken[name] = library.traverse_util.unflatten_dict(added)
    for path, leaf in flat:
        known = path in module.paths or isinstance(leaf, library.nnx.Intermediate)
        if calling.options.sown is None and not known:
            kind, name = type(leaf).__name__, "/".join(path)
            raise left_values(calling, f"{kind} {name!r} that the call makes", repr(path[-1]))
    return taken


def _names(one: Any, path: tuple[str, ...], leaf: Any) -> bool:
    if isinstance(one, str):
        return one in (path[-1], type(leaf).__name__)
    return isinstance(leaf, one)


def _value(leaf: Any) -> Any:
    values = jax.tree.leaves(leaf)
    return values[0] if len(values) == 1 else tuple(values)


def _advanced(module: Module, state: Any, after: Any) -> Any:
    """Returns `state`, with the caches from `after`."""
    flatten, caches = library.traverse_util.flatten_dict, {*module.caches}
    flat = flatten(after) if caches else {}
    return library.traverse_util.unflatten_dict(
        {path: flat[path] if path in caches else leaf for path, leaf in flatten(state).items()}
    )
