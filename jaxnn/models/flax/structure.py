"""Functions that the conversions of NNX and Linen models share."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxnn.checks import Invalid, InvalidType, InvalidValue
from jaxnn.models.flax.calling import Calling
from jaxnn.names import listing
from jaxnn.network import Network, describe
from jaxnn.typing import Any


def described(network: Network, kind: Any, settings: Mapping[str, Any]) -> Network:
    """Adds the name and the settings of a model to the description of a network."""
    shown = {name: _hashable(value) for name, value in settings.items()}
    return describe(network, kind.__name__, **shown)


def _hashable(value: Any) -> Any:
    """Returns a value as it is described: a network must be hashable, also with any settings."""
    value = getattr(value, "__name__", value)
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    try:
        hash(value)
    except TypeError:  # a dict or an array
        return repr(value)
    return value


def with_submodules(network: Network) -> Network:
    """Marks a network whose call passes through its submodules, which are not described."""
    return network._replace(parts=network.parts._replace(flow="called"))


def cast_like(old: Any, new: Any) -> Any:
    """Returns the values of `new` with the structure and dtypes of `old`, as loops require."""
    if isinstance(old, Mapping):
        return {name: cast_like(value, new.get(name, value)) for name, value in old.items()}
    return jnp.asarray(new, old.dtype)


def sown_names(where: str, sown: Any, types: tuple[type, ...] = (str,)) -> tuple[Any, ...]:
    """Returns `sown` as a tuple; raises `InvalidType` unless it is a list of names or types."""
    if sown is None:
        return ()
    if isinstance(sown, str) or not all(isinstance(one, types) for one in sown):
        raise InvalidType(
            where,
            "sown is not a list of names",
            got=f"sown={sown!r}",
            expected="the collections that the model sows into, or types of nnx.Variable",
            fix='Write sown=["losses"], or for NNX sown=[nnx.Intermediate]',
        )
    return tuple(sown)


def left_values(calling: Calling, values: str, name: str) -> Invalid:
    """Returns the error for a model that stores values that are neither state nor sown."""
    return InvalidValue(
        calling.where,
        f"{calling.title} stores values that are not used",
        got=f"a {values}",
        expected="the argument sown, which names or drops them",
        fix=f"Write sown=[{name}] to return (outputs, {{{name}: ...}}), or sown=[] to drop them",
    )


def sown_nothing(calling: Calling, name: str, others: Any) -> Invalid:
    """Returns the error for a name in `sown` for which the model stores no values."""
    return InvalidValue(
        calling.where,
        f"{calling.title} stores no {name!r} in training",
        got=f"sown={[*map(str, calling.options.sown)]}",
        expected=f"some of {listing([*others])}",
        fix="Name a collection or a variable that the model stores",
    )


def check_precision(
    calling: Calling, path: str, layer: Any, own: list[Any], given: list[Any], dtype: Any
) -> None:
    """Raises `InvalidValue` if a layer does not compute its products in the dtype `dtype`.

    Args:
      calling: the call of the model.
      path: the path of the layer.
      layer: a module. It is checked if it has a `dtype` attribute, which may be `None`.
      own: the parameters of the layer itself.
      given: the arguments of its call.
      dtype: the dtype of `mixed_precision`.
    """
    if not any(jnp.ndim(x) > 1 for x in own) or not hasattr(layer, "dtype"):
        return
    arrays = [x.dtype for x in (*own, *given) if hasattr(x, "dtype")]
    floats = [each for each in arrays if jnp.issubdtype(each, jnp.floating)]
    actual = jnp.result_type(*floats) if layer.dtype is None else jnp.dtype(layer.dtype)
    if actual == dtype:
        return
    reason = "its inputs have that dtype" if layer.dtype is None else f"dtype={actual}"
    raise InvalidValue(
        calling.where,
        "mixed_precision would round the weights of a layer that computes in its own dtype",
        got=f"{path or calling.title}, which computes in {actual}: {reason}",
        expected=f"layers with dtype=None, or dtype={dtype}, also before this one",
        fix=f"Build {calling.title} with those, or with dtype=jnp.{dtype} and no mixed_precision",
    )


def not_a_model(where: str, model: Any) -> Invalid:
    """Returns the error for an object that is not a Flax model."""
    expected = "an nnx.Module, its class, a function that makes one, or a Linen module"
    fix = "Subclass flax.nnx.Module, or convert a function with stateless(...)"
    return invalid(where, "this is not a Flax model", model, expected, fix)


def invalid(where, wrong, given, expected, fix, error: Any = InvalidType) -> Invalid:
    """Returns an error that describes a value by its type, its shape, or the keys of a dict."""
    got = getattr(given, "__name__", f"a {type(given).__name__}")
    got += f" of shape {jnp.shape(given)}" if isinstance(given, jax.Array) else ""
    got = f"{{{', '.join(given)}}}" if isinstance(given, dict) else got
    return error(where, wrong, got=got, expected=expected, fix=fix)
