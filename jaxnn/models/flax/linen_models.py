"""Linen models: `params` is the collection of that name, and `state` holds all other collections.

The collection `cache` is updated in inference too; the others are updated in training only. Values
that a model stores with `sow` are neither parameters nor state. `sown` names the collections whose
values are returned with the outputs.
"""

import dataclasses
import re
from collections.abc import Mapping
from contextlib import contextmanager

import jax

from jaxnn.calls import observers, part_key
from jaxnn.checks import Invalid, InvalidType, InvalidValue
from jaxnn.models.flax import library
from jaxnn.models.flax.axes import AxisNames
from jaxnn.models.flax.calling import Calling, Options, as_setting, read_call, unknown_setting
from jaxnn.models.flax.modes import FLAGS, check_reactions, fixed_setting, values
from jaxnn.models.flax.structure import (
    cast_like,
    check_precision,
    described,
    left_values,
    sown_names,
    sown_nothing,
    with_submodules,
)
from jaxnn.models.flax.submodules import SUBMODULES, LinenCalls
from jaxnn.names import listing
from jaxnn.network import Network
from jaxnn.transforms._mixed_precision import computing_dtype
from jaxnn.typing import Any, Callable, Params, State

CACHE, INTERMEDIATES = "cache", "intermediates"


def linen_network(where: str, model: Any, options: Options) -> Network:
    """Converts a Linen module to a network."""
    calling = _read_call(where, model, options)
    sown, axes, streams = sown_names(where, options.sown), AxisNames(), ["dropout"]

    def run(function: Callable[..., Any], inputs: Any, key: Any) -> Any:
        settings: Any = values(calling.settings, key is not None)
        module = model.clone(**settings)
        with _explained(calling, key):
            return function(module, lambda module, inputs: calling(module, inputs, key))

    def init(key, inputs):
        inputs = jax.eval_shape(lambda x: x, inputs)

        def shapes(module, method):
            return jax.eval_shape(lambda k, x: module.init(k, x, method=method), key, inputs)

        params, state = collections(run(shapes, inputs, None), sown, calling)
        # lazy_init computes only what depends on the key, so the inputs need only have a shape.
        mutable = [*state, "params"] if params else [*state]

        def draw(module, method):
            return axes(lambda: module.lazy_init(key, inputs, mutable=mutable, method=method))

        return collections(run(draw, inputs, None), sown, calling)

    def apply(params, state, inputs, *, key=None):
        variables, drawn = {"params": params, **state}, calling.key(key)
        # In training all collections are mutable, so that no value is dropped silently.
        unseen = {"params", INTERMEDIATES} - {*sown}
        mutable: Any = library.core.DenyList(unseen)
        if key is None:
            mutable = [*sown, *([CACHE] if CACHE in state else [])]
        updates = key is None and bool(mutable)
        if key is None and observers():
            mutable = [*mutable, SUBMODULES]

        def compute(module, method):
            def once():
                rngs = {} if drawn is None else {name: stream(drawn, name) for name in streams}
                with _watching(calling, key, updates):
                    return module.apply(
                        variables, inputs, rngs=rngs, mutable=mutable, method=method
                    )

            return axes(lambda: _learn_streams(once, streams, drawn))

        outputs, after = run(compute, inputs, key)
        after = library.core.unfreeze(after)
        stored = {SUBMODULES: after.pop(SUBMODULES)} if SUBMODULES in after else {}
        if key is not None:
            _check_collections(calling, state, after, sown)
            for name in sown:
                if name not in after:
                    raise sown_nothing(calling, name, [*after, INTERMEDIATES])
        left = {name: after.get(name, {}) for name in sown}
        outputs = (outputs, left) if options.sown else outputs
        return outputs, cast_like(state, after) | stored

    fields = {name: getattr(model, name) for name in _fields(model)}
    defaults = {field.name: field.default for field in dataclasses.fields(model)}
    given = {name: value for name, value in fields.items() if value is not defaults[name]}
    return with_submodules(described(Network(init, apply), type(model), given))


def stream(key: Any, name: str) -> Any:
    """Returns the key of a random stream: the key itself for `dropout`, else one for its name."""
    return key if name == "dropout" else part_key(key, name)


def _learn_streams(function: Callable[[], Any], streams: list[str], key: Any) -> Any:
    """Calls a function until it has all random streams that it requests, and records their names.

    Without a stream of the requested name, a model would fall back to the stream `params`, which
    gives the same numbers in each iteration of a loop (`nn.scan`).
    """
    while True:
        try:
            return function()
        except library.errors.InvalidRngError as error:
            name = re.search(r'needs PRNG for "(\w+)"', str(error))
            if key is None or not name or name[1] in streams:
                raise
            streams.append(name[1])


def collections(
    variables: Any, sown: Any = (), calling: Calling | None = None
) -> tuple[Params, State]:
    """Returns `(params, state)` from the variables of a Linen module, without sown values."""
    tree = library.core.unfreeze(library.core.meta.unbox(variables))
    for name, values_of_it in list(tree.items()):
        # Values stored by `sow` are tuples, which grow with every call.
        leaves = library.traverse_util.flatten_dict(values_of_it).values()
        is_sown = any(isinstance(leaf, tuple) for leaf in leaves)
        if is_sown and calling and name not in sown:
            _check_collections(calling, {}, {name: values_of_it}, sown)
        if not leaves or is_sown or name in sown:
            del tree[name]
    return tree.pop("params", {}), tree


def _read_call(where: str, model: Any, options: Options) -> Calling:
    calling = read_call(where, type(model), options)
    fields = _fields(model)
    for name in calling.settings:
        if name not in fields:
            raise unknown_setting(calling, name, fields)
    for name, value in ((name, getattr(model, name)) for name in fields if name in FLAGS):
        if not isinstance(value, bool) or name in calling.settings:
            continue
        if name in calling.flags and options.switch is not None:
            calling = as_setting(calling, name)
        elif options.switch is None and options.call is None and not options.paired:
            raise fixed_setting(where, calling.title, name, value)
    return calling


def _fields(model: Any) -> list[str]:
    names = (field.name for field in dataclasses.fields(model))
    return [name for name in names if name not in ("parent", "name")]


@contextmanager
def _watching(calling: Calling, key: Any, updates: bool):
    """Checks for each layer that is called that it trains in training, and its precision.

    `updates` is whether the model may update variables in inference.
    """
    reactions: dict[str, list[bool]] = {"Dropout": [], "BatchNorm": []}
    dtype, submodules = computing_dtype(), LinenCalls(updates)

    def watch(proceed, arguments, options, context):
        layer = context.module
        if context.method_name == "__call__":
            if dtype is not None:
                given = jax.tree.leaves((arguments, options))
                check_precision(calling, "/".join(layer.path), layer, _own(layer), given, dtype)
            if isinstance(layer, library.linen.BatchNorm):
                flag = _flag(layer, "use_running_average", 1, arguments, options)
                reactions["BatchNorm"].append(not flag)
            elif isinstance(layer, library.linen.Dropout) and layer.rate:
                flag = _flag(layer, "deterministic", 1, arguments, options)
                reactions["Dropout"].append(not flag)
            elif (
                isinstance(layer, library.linen.MultiHeadDotProductAttention) and layer.dropout_rate
            ):
                flag = _flag(layer, "deterministic", None, arguments, options)
                reactions["Dropout"].append(not flag)
            return submodules(layer, proceed, arguments, options)
        return proceed(*arguments, **options)

    with library.linen.intercept_methods(watch):
        yield
    if key is not None and not calling.is_left:
        called = calling.options.call is not None
        check_reactions(
            calling.where, calling.title, reactions, explicit=calling.is_explicit, called=called
        )


def _own(layer: Any) -> list[Any]:
    """Returns the parameters of a layer itself, without those of nested layers."""
    tree = layer.variables.get("params", {})
    return [leaf for leaf in tree.values() if not isinstance(leaf, Mapping)]


def _flag(layer: Any, name: str, place: int | None, arguments: Any, options: Any) -> bool:
    given = options.get(name)
    if given is None and place is not None and len(arguments) > place:
        given = arguments[place]
    return bool(getattr(layer, name) if given is None else given)


def _check_collections(calling: Calling, state: Any, after: Any, sown: tuple[str, ...]) -> None:
    """Raises `InvalidValue` if a model creates collections that are neither state nor sown."""
    others = [
        name for name in after if name not in {*state, *sown} and jax.tree.leaves(after[name])
    ]
    if others and calling.options.sown is None:
        raise left_values(calling, f"collection {listing(map(repr, others))}", repr(others[0]))


@contextmanager
def _explained(calling: Calling, key: Any):
    """Converts Flax's errors about a wrong call of the model to errors that say what to write."""
    try:
        yield
    except Invalid:
        raise
    except library.errors.InvalidRngError as error:
        raise InvalidValue(
            calling.where,
            f"{calling.title} samples random numbers in inference",
            got=_first_line(error),
            expected="a deterministic model, or a key",
            fix="Pass inference=module, a second module for inference, or"
            " inference_key=jax.random.key(0) if it should sample",
        ) from error
    except library.errors.ModifyScopeVariableError as error:
        raise InvalidValue(
            calling.where,
            f"{calling.title} updates variables in inference",
            got=_first_line(error),
            expected=f"updates in training only, except in the collection {CACHE!r}",
            fix="Pass inference=module, a second module for inference, or switch= with its flag",
        ) from error
    except (library.errors.ScopeParamNotFoundError, library.errors.ScopeParamShapeError) as error:
        raise InvalidType(
            calling.where,
            f"the parameters do not belong to {calling.title}",
            got=_first_line(error),
            expected="the parameters that init returns",
            fix="Pass the parameters of this model; the modules for training and for inference"
            " must have the same ones",
        ) from error


def _first_line(error: Exception) -> str:
    line = str(error).split(". ")[0].split(" (http")[0].splitlines()[0]
    return line.replace("None needs", "it needs")
