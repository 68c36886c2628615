"""`from_flax`, and the way back."""

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
    """Makes a network of a Flax model, as it is.

    The model is called on the inputs. If it takes several, they are a tuple, or a dict whose keys
    are their names. A model that takes `train`, `training`, `is_training`, or the inverse,
    `deterministic` or `use_running_average`, receives the mode so. All else says `call`:

        from_flax(Classifier(), call=lambda module, x, **mode: module(x["text"], x["mask"], **mode))
        from_flax(Autoencoder(), call=lambda module, x, key=None: module.encode(x, key))

    In inference the state is returned as given, but for caches, which advance. In training NNX
    stream number i, by name, is `fold_in(key, i)`; the Linen stream `dropout` is the key, any other
    is `jaxnn.calls.part_key(key, name)`. An axis name, as in `BatchNorm(axis_name="batch")`,
    stands for all devices: a batch is one array.

    Args:
      model: a class or function that makes an `nnx.Module`: `init` calls
        `model(**arguments, rngs=nnx.Rngs(key))`. Or an `nnx.Module`, to continue its training:
        `init` copies its present parameters, whatever the key; the module itself is never changed.
        Or a Linen module: `init` is its own, in inference mode, without `nn.Partitioned` boxes.
      call: `(module, inputs, **mode) -> outputs` calls the module, for Linen bound to its
        variables: with several inputs, keywords, other methods. It may name what it needs of the
        mode: a flag by any of the names above, in the sense of that name; `key`, for randomness,
        which in inference is `inference_key`; `rngs`, if an NNX model is called with them. `**mode`
        takes the flags that the model has.
      switch: the flag that says the mode, an argument of the call, a field of a Linen module or an
        attribute of an NNX module: its name, if it is on in training, or
        `{name: its value in training}`. `{}` if the model has none, and is to stay as it is.
      inference: a second module, which predicts with the parameters of the first.
      inference_key: for a model that draws in inference too; without it, that is an error.
      sown: what the model leaves beside its outputs: for Linen collections, such as `"losses"`; for
        NNX types of variables, or their names. Then the outputs are `(outputs, {name: values})`.
        `nn.sow` into `"intermediates"` and `nnx.Intermediate` are dropped otherwise; any other is
        an error, until `sown=[]`.
      **arguments: what the class or function is called with.

    Raises:
      InvalidType: if `model` is not a Flax model, is a Linen class, or does not take `arguments`;
        if nothing of it can be trained; if `call` cannot be called. From `init` and `apply`, if
        the inputs do not fit, or, for NNX, if parameters are not the model's; they are named.
      InvalidValue: if there are arguments for a model that is an instance already; if a boolean of
        the call may be the mode. From `init` and `apply`, if the mode does not reach a layer, if
        the model draws in inference, leaves values that nobody takes, or cannot be computed in the
        precision of `mixed_precision`.
    """
    options = Options(call, switch, inference_key, sown, paired=inference is not None)
    network = _network(model, arguments, options)
    if inference is None:
        return network
    predicting = _network(inference, {}, options)
    is_linen = isinstance(inference, library.linen.Module)

    def apply(params, state, inputs, *, key=None):
        return (predicting if key is None else network).apply(params, state, inputs, key=key)

    # A Linen module for training may draw while it is initialised, as its authors do not.
    return network._replace(init=(predicting if is_linen else network).init, apply=apply)


def _network(model: Any, arguments: dict[str, Any], options: Options) -> Network:
    if _is_linen("from_flax", model, arguments):
        return linen_network("from_flax", model, options)

    return nnx_network("from_flax", model, arguments, options)


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

    parts = take_apart("to_flax", model, arguments)
    return assemble("to_flax", parts, params, state or {}, check_shapes=True)


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
    if isinstance(source, library.nnx.Module):
        return split("flax_parameters", source)
    if isinstance(source, Mapping) and "params" in source:
        return collections(source)
    expected = 'an nnx.Module, or variables {"params": ...} of a Linen module'
    fix = "Pass the module, or what Linen's init returned"
    raise invalid("flax_parameters", "no Flax parameters are here", source, expected, fix)


def _is_linen(where: str, model: Any, arguments: dict[str, Any]) -> bool:
    """Returns whether a model is Linen's rather than NNX's; raises unless it is either."""
    linen = library.linen
    kind: Any = model if inspect.isclass(model) else None
    title = getattr(model, "__name__", repr(model))
    if isinstance(model, linen.Module | library.nnx.Module):
        if arguments:
            wrong = f"{', '.join(arguments)}: no arguments are taken by an instance"
            fix = f"Make the {type(model).__name__} with them, or leave them out"
            raise invalid(where, wrong, model, "a class or a function", fix, InvalidValue)
        return isinstance(model, linen.Module)
    if kind and issubclass(kind, linen.Module):
        wrong, expected = "a Linen class has no settings yet", "a Linen module, an instance of it"
        raise invalid(where, wrong, model, expected, f"Write {where}({title}(...))")
    if not callable(model) or (kind and not issubclass(kind, library.nnx.Module)):
        raise not_a_model(where, model)
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
        raise invalid(where, wrong, arguments, expected, fix) from None
    return False
