"""The bridge to Equinox: converts modules to networks, and back with trained parameters.

| here              | Equinox                                                          |
|-------------------|------------------------------------------------------------------|
| `params`          | the module with its floating-point arrays only                   |
| `state`           | `{"state": eqx.nn.State, "buffers": its other arrays}`, if any    |
| a batch           | `jax.vmap` of the module, with the axis name `"batch"`            |
| a key: training   | a key for each example, if the module's call takes one            |
| no key: inference | `eqx.nn.inference_mode(module)`                                   |

The parameters are a module, a pytree whose leaves `freeze`, `lora` and rules name by their fields.
"""

import inspect
from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.formatting import first_line
from jaxnn.masked import refuse_masked
from jaxnn.models.flax.calling import Options, call_parameters, read_call
from jaxnn.models.flax.structure import described
from jaxnn.network import Network, without_empty
from jaxnn.typing import Any, Callable, Params, State


def from_equinox(
    model: Any,
    /,
    *,
    call: Callable[..., Any] | None = None,
    axis_name: str = "batch",
    inference_key: Any = None,
    **arguments: Any,
) -> Network:
    """Converts an Equinox module, whose call takes one example, to a network.

        from_equinox(eqx.nn.MLP, in_size=4, out_size=3, width_size=32, depth=2)
        from_equinox(eqx.nn.make_with_state(Model))

    If the module's call has an argument `state`, it receives the state and returns
    `(outputs, state)`; if it has an argument `key`, it receives a key for each example. Inputs may
    be an array, a tuple, or a dict whose keys are the names of the call's arguments.

    Args:
      model: a class or function that returns an `eqx.Module` or a pair `(module, eqx.nn.State)`:
        `init` calls `model(**arguments, key=key)`. Or the module or the pair itself: `init` copies
        its arrays, whatever the key.
      call: `(module, inputs, **mode) -> outputs` calls the module on a whole batch. It may take
        `key`, `training` and `state`; with `state` it returns `(outputs, state)`.
      axis_name: the name of the batch axis, as in `eqx.nn.BatchNorm`.
      inference_key: the key in inference, for a model that samples there too; `None` by default.
      **arguments: the arguments of the class or function.

    Raises:
      InvalidType: if `model` is not an Equinox model, cannot be built, has a state that its call
        does not take, or has no floating-point arrays.
      InvalidValue: if there are `arguments` for a module.
    """
    build = _builder("from_equinox", model, arguments)
    shapes, static = _take_apart("from_equinox", build)
    module, has_state = shapes
    kind, stand_in = type(module), None if call is None else lambda module, inputs: inputs
    calling = read_call("from_equinox", kind, Options(stand_in, {}))
    inputs = {k: one for k, one in calling.inputs.items() if k not in ("state", "key")}
    calling = replace(calling, inputs=inputs)
    takes = call_parameters(kind) if call is None else inspect.signature(call).parameters

    def init(key, inputs):
        copied = jax.tree.map(lambda x: jnp.array(x, x.dtype), _arrays(build(key)))
        return copied[0], without_empty({"buffers": copied[1], "state": copied[2]})

    def apply(params, state, inputs, *, key=None):
        equinox, training = _equinox(), key is not None
        module = _combined(params, state, static)
        module = equinox.nn.inference_mode(module, value=not training)
        drawn, own = inference_key if key is None else key, state.get("state")
        # Equinox invalidates a state that was updated, so the call receives a copy.
        given = {"state": jax.tree.map(lambda x: x, own)} if "state" in takes else {}
        if call is not None:
            offered = {**given, "key": drawn, "training": training}
            outputs = call(module, inputs, **{k: v for k, v in offered.items() if k in takes})
        else:
            refuse_masked("from_equinox", inputs)
            count = jax.tree.leaves(inputs)[0].shape[0]
            keys = None if drawn is None or "key" not in takes else jax.random.split(drawn, count)

            def one(example, key):
                named = {"key": key} if "key" in takes else {}
                return calling(lambda *a, **k: module(*a, **k, **given, **named), example, None)

            axes = (0, None if keys is None else 0)
            out_axes = (0, None) if given else 0
            outputs = jax.vmap(one, axes, out_axes, axis_name=axis_name)(inputs, keys)
        if not given:
            return outputs, state
        outputs, after = outputs
        if not training:
            return outputs, state
        after = jax.tree.map(lambda old, new: jnp.asarray(new, old.dtype), own, after)
        return outputs, {**state, "state": after}

    if has_state and "state" not in takes:
        raise InvalidType(
            "from_equinox",
            f"{kind.__name__} has a state that its call does not take",
            got=f"arguments {', '.join(takes)}",
            expected="an argument `state`, and a call that returns (outputs, state)",
            fix="Take state in its __call__, or in call=lambda module, inputs, state: ...",
        )
    return described(Network(init, apply), kind, arguments)


def to_equinox(model: Any, /, params: Params, state: State | None = None, **arguments: Any) -> Any:
    """Returns the Equinox module with trained parameters, in inference mode.

    Args:
      model: the model that was passed to `from_equinox`.
      params: the trained parameters.
      state: the trained state; `{}` by default.
      **arguments: the arguments that were passed to `from_equinox`.

    Returns:
      The module, or `(module, eqx.nn.State)` for a model with a state.

    Raises:
      InvalidType: if `model` is not an Equinox model, or cannot be built.
      InvalidValue: if there are `arguments` for a module.
    """
    equinox, own = _equinox(), dict(state or {})
    _, static = _take_apart("to_equinox", _builder("to_equinox", model, arguments))
    module = equinox.nn.inference_mode(_combined(params, own, static))
    return (module, own["state"]) if "state" in own else module


def _builder(where: str, model: Any, arguments: dict[str, Any]) -> Callable[[Any], Any]:
    module = model[0] if isinstance(model, tuple) else model
    if isinstance(module, _equinox().Module) and not inspect.isclass(module):
        if arguments:
            raise InvalidValue(
                where,
                f"a module takes no arguments, but {', '.join(arguments)} are given",
                got=f"a {type(module).__name__}",
                expected="a class or a function",
                fix=f"Build the {type(module).__name__} with them, or leave them out",
            )
        return lambda key: model
    if not callable(model):
        raise _not_a_model(where, model)
    return lambda key: model(**arguments, key=key)


def _take_apart(where: str, build: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Returns `(module of shapes, whether it has a state)`, and the module without arrays."""
    equinox = _equinox()
    try:
        built = equinox.filter_eval_shape(build, jax.random.key(0))
    except TypeError as error:
        raise InvalidType(
            where,
            "the model cannot be built",
            got=first_line(error),
            expected="a class that is called with its arguments and key=",
            fix=f"Write {where}(Model, in_size=..., ...), or pass the module itself",
        ) from error
    module = built[0] if isinstance(built, tuple) else built
    if not isinstance(module, equinox.Module):
        raise _not_a_model(where, built)
    if not jax.tree.leaves(_arrays(built)[0]):
        raise InvalidType(
            where,
            f"{type(module).__name__} has nothing to train",
            got="a module without floating-point arrays",
            expected="arrays in its fields",
            fix="Convert a plain function to a network with stateless(...)",
        )
    static = equinox.filter(module, _is_array, inverse=True)
    return (module, isinstance(built, tuple)), static


def _combined(params: Any, state: Any, static: Any) -> Any:
    buffers = [state["buffers"]] if "buffers" in state else []
    return _equinox().combine(params, *buffers, static)


def _arrays(built: Any) -> tuple[Any, Any, Any]:
    """Returns the floating-point arrays of a module, its other arrays, and its state."""
    module, state = built if isinstance(built, tuple) else (built, {})
    filtered = _equinox().filter
    others = filtered(module, lambda x: _is_array(x) and not _is_float(x))
    return filtered(module, _is_float), others, state


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct) or bool(_equinox().is_array(x))


def _is_float(x: Any) -> bool:
    return _is_array(x) and bool(jnp.issubdtype(x.dtype, jnp.inexact))


def _not_a_model(where: str, model: Any) -> InvalidType:
    return InvalidType(
        where,
        "this is not an Equinox model",
        got=f"a {type(model).__name__}",
        expected="an eqx.Module, its class, or a function that returns one",
        fix="Subclass equinox.Module, or convert a function to a network with stateless(...)",
    )


def _equinox() -> Any:
    try:
        import equinox
    except ImportError as error:
        raise InvalidType(
            "from_equinox",
            "Equinox is not installed",
            got="no package equinox",
            expected="the package equinox",
            fix="pip install equinox",
        ) from error
    return equinox
