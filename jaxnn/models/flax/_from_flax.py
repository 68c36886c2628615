"""The public functions of the bridge to Flax: `from_flax`, `to_flax` and `flax_parameters`."""

import inspect
from collections.abc import Mapping, Sequence

from jaxnn.checks import InvalidValue
from jaxnn.models.flax import library
from jaxnn.models.flax.calling import Options
from jaxnn.models.flax.linen_models import collections, linen_network
from jaxnn.models.flax.nnx_models import nnx_network
from jaxnn.models.flax.nnx_parts import assemble, split, take_apart
from jaxnn.models.flax.structure import invalid, not_a_model
from jaxnn.network import Network
from jaxnn.typing import Any, Callable, Params, State


def from_flax(
    model: Any,
    /,
    *,
    call: Callable[..., Any] | None = None,
    switch: str | Mapping[str, bool] | None = None,
    inference: Any = None,
    inference_key: Any = None,
    sown: Sequence[Any] | None = None,
    **arguments: Any,
) -> Network:
    """Converts a Flax model to a network.

    The model is called on the inputs; several inputs are a tuple, or a dict whose keys are the
    names of the call's arguments. If the call has a flag `train`, `training` or `is_training`, or
    the inverse, `deterministic` or `use_running_average`, the flag is set by the mode. For any
    other model, pass `call`:

        from_flax(Classifier(), call=lambda module, x, **mode: module(x["text"], x["mask"], **mode))
        from_flax(Autoencoder(), call=lambda module, x, key=None: module.encode(x, key))

    Inference returns the state unchanged, except for caches, which advance. In training, the i-th
    NNX stream (by name) is `fold_in(key, i)`; the Linen stream `dropout` is the key, and any other
    is `jaxnn.calls.part_key(key, name)`. An axis name, as in `BatchNorm(axis_name="batch")`,
    refers to all devices, since a batch is one array. The submodules are parts of the network, with
    their names in Flax: `table`, `capture` and pictures show them.

    Args:
      model: a class or function that returns an `nnx.Module`: `init` calls
        `model(**arguments, rngs=nnx.Rngs(key))`. Or an `nnx.Module`, to continue its training:
        `init` copies its current parameters, whatever the key; the module itself is not modified.
        Or a Linen module: `init` calls its `init` in inference mode and removes `nn.Partitioned`
        boxes.
      call: `(module, inputs, **mode) -> outputs` calls the module (for Linen, bound to its
        variables), for several inputs, keyword arguments or other methods. It may take any of the
        flags above, with the meaning of its name; `key`, a random key, which is `inference_key` in
        inference; and `rngs`, if an NNX model is called with them. `**mode` receives the flags of
        the model.
      switch: the flag for the mode, which is an argument of the call, a field of a Linen module or
        an attribute of an NNX module: its name, if it is true in training, or
        `{name: its value in training}`. `{}` leaves a model without modes as it is.
      inference: a second module, which predicts with the parameters of the first.
      inference_key: the key in inference, for a model that samples there too; required by those.
      sown: the values that the model returns besides its outputs, as names of Linen collections,
        such as `"losses"`, or as types or names of NNX variables. The outputs are then
        `(outputs, {name: values})`. Otherwise, values in `"intermediates"` (`nn.sow`) and
        `nnx.Intermediate` are dropped, and any others are an error; `sown=[]` drops them too.
      **arguments: the arguments of the class or function.

    Raises:
      InvalidType: if `model` is not a Flax model, is a Linen class, or does not take `arguments`;
        if it has nothing to train; if `call` has the wrong signature. By `init` and `apply`, if the
        inputs do not fit or, for NNX, if parameters are missing or unknown.
      InvalidValue: if there are `arguments` for an instance, or a boolean of the call may be a flag
        for the mode. By `init` and `apply`, if the mode does not reach a layer, or the model
        samples in inference, makes variables that are not `sown`, or does not follow
        `mixed_precision`.
    """
    options = Options(call, switch, inference_key, sown, paired=inference is not None)
    network = _network(model, arguments, options)
    if inference is None:
        return network
    predicting = _network(inference, {}, options)
    is_linen = isinstance(inference, library.linen.Module)

    def apply(params, state, inputs, *, key=None):
        return (predicting if key is None else network).apply(params, state, inputs, key=key)

    # Flax users initialise a Linen module for inference, since one for training may need more rngs.
    return network._replace(init=(predicting if is_linen else network).init, apply=apply)


def _network(model: Any, arguments: dict[str, Any], options: Options) -> Network:
    if _is_linen("from_flax", model, arguments):
        return linen_network("from_flax", model, options)

    return nnx_network("from_flax", model, arguments, options)


def to_flax(model: Any, /, params: Params, state: State | None = None, **arguments: Any) -> Any:
    """Returns a Flax model with trained parameters and state; the inverse of `flax_parameters`.

    Args:
      model: the model that was passed to `from_flax`.
      params: the trained parameters.
      state: the trained state; `{}` by default.
      **arguments: the arguments that were passed to `from_flax`.

    Returns:
      For NNX, a new `nnx.Module` in inference mode (call its `train()` to continue training), with
      random streams from `key(0)`. For Linen, the variables `{"params": params, **state}`.

    Raises:
      InvalidType: as in `from_flax`; for NNX, also if an array is missing or not in the model.
      InvalidValue: as in `from_flax`; for NNX, also if an array has another shape in the model.
    """
    if _is_linen("to_flax", model, arguments):
        return {"params": params, **(state or {})}

    parts = take_apart("to_flax", model, arguments)
    return assemble("to_flax", parts, params, state or {}, check_shapes=True)


def flax_parameters(source: Any) -> tuple[Params, State]:
    """Returns `(params, state)` of a Flax model: its arrays themselves, not copies.

    Args:
      source: an `nnx.Module`, or the variables of a Linen module, `{"params": ..., ...}`.

    Raises:
      InvalidType: if `source` is neither.

    Example:
      >>> flax_parameters({"params": {"w": 1.0}, "batch_stats": {"mean": 2.0}})
      ({'w': 1.0}, {'batch_stats': {'mean': 2.0}})
    """
    if isinstance(source, library.nnx.Module):
        return split("flax_parameters", source)
    if isinstance(source, Mapping) and "params" in source:
        return collections(source)
    expected = 'an nnx.Module, or variables {"params": ...} of a Linen module'
    fix = "Pass the module, or the variables that Linen's init returns"
    raise invalid("flax_parameters", "source has no Flax parameters", source, expected, fix)


def _is_linen(where: str, model: Any, arguments: dict[str, Any]) -> bool:
    """Returns whether a model is Linen's rather than NNX's; raises unless it is either."""
    linen = library.linen
    kind: Any = model if inspect.isclass(model) else None
    title = getattr(model, "__name__", repr(model))
    if isinstance(model, linen.Module | library.nnx.Module):
        if arguments:
            wrong = f"an instance takes no arguments, but {', '.join(arguments)} are given"
            fix = f"Build the {type(model).__name__} with them, or leave them out"
            raise invalid(where, wrong, model, "a class or a function", fix, InvalidValue)
        return isinstance(model, linen.Module)
    if kind and issubclass(kind, linen.Module):
        wrong, expected = "model is a Linen class", "a Linen module, an instance of the class"
        raise invalid(where, wrong, model, expected, f"Write {where}({title}(...))")
    if not callable(model) or (kind and not issubclass(kind, library.nnx.Module)):
        raise not_a_model(where, model)
    # The signature of an NNX class is that of its metaclass, so its constructor is inspected.
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
        raise invalid(where, wrong, arguments, expected, fix) from None
    return False
