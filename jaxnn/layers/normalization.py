"""Normalization: shift and scale to mean 0 and variance 1, over a data set, batch or example.

>>> import jax.numpy as jnp
>>> network = standardize(mean=2.0, std=4.0)
>>> _, state = network.init(None, None)
>>> network.apply({}, state, jnp.array([[2, 10]]))[0].tolist()
[[0.0, 2.0]]
>>> params = {"scale": jnp.ones(2), "bias": jnp.zeros(2)}
>>> layer_norm().apply(params, {}, jnp.array([[1.0, 3.0]]))[0].round(3).tolist()
[[-1.0, 1.0]]
"""

import math

import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidValue, floating, multiple, number, positive, positive_integer
from jaxnn.layers._linear import at_least_float32, check_features
from jaxnn.masked import Masked, check_place_features, per_place, put_back, values_of
from jaxnn.network import Network, Parts, describe, stateless
from jaxnn.typing import Any, Number


def standardize(mean: Any, std: Any) -> Network:
    """Returns a layer that computes `(inputs - mean) / std` in float32, for raw inputs.

    As the first layer of a network, it lets data keep their storage dtype, such as bytes, and
    predictions take raw inputs. `mean` and `std` are stored in the state: a checkpoint contains
    them, and the state takes precedence over the arguments of a network that is built again.

    Args:
      mean: the mean of the training data, a number or an array that broadcasts to one example.
      std: the standard deviation, likewise; positive.

    Raises:
      InvalidValue: if a `std` is not positive, or a `mean` or `std` is not finite.
    """
    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    if not (np.isfinite(mean).all() and (std > 0).all() and np.isfinite(std).all()):
        raise InvalidValue(
            "standardize",
            "mean and std must be finite, and std positive",
            got=f"mean={mean.tolist()}, std={std.tolist()}",
            expected="numbers computed from the training data",
            fix="Leave out constant features, or pass std=np.maximum(std, 1e-6)",
        )

    def init(key, inputs):
        return {}, {"mean": jnp.asarray(mean), "std": jnp.asarray(std)}

    def apply(params, state, inputs, *, key=None):
        x, statistics = values_of(inputs), (state["mean"], state["std"])
        if isinstance(inputs, Masked):
            _check_alike_in_time(x, *statistics)
        centre, spread = (y.reshape((1,) * (x.ndim - y.ndim) + y.shape) for y in statistics)
        return put_back(inputs, (x.astype(jnp.float32) - centre) / spread), state

    # By way of text, since float(float32(4.88)) is 4.880000114440918.
    scalars = mean.ndim == std.ndim == 0
    settings = {"mean": float(str(mean)), "std": float(str(std))} if scalars else {}
    return describe(Network(init, apply), "standardize", **settings)


def _check_alike_in_time(values: Any, *statistics: Any) -> None:
    """Raises unless each place of a sequence is standardized alike."""
    for x in statistics:
        if x.ndim > values.ndim - 2 and x.shape[-(values.ndim - 1)] != 1:
            raise InvalidValue(
                "standardize",
                "mean and std differ along time, and the places of sequences may be anywhere",
                got=f"statistics of shape {x.shape} and Masked values of shape {values.shape}",
                expected="the same for each place of a sequence",
                fix="Compute them over the examples and time: one for each feature",
            )


def layer_norm(*, epsilon: float = 1e-6, bias: bool = True) -> Network:
    """Returns layer normalization: over the last axis of `[batch, ..., features]`.

    Computes `outputs = (x - mean) / sqrt(variance + epsilon) * scale + bias`, with one learned
    `scale` and `bias` for each feature, and statistics in float32 or wider.

    Args:
      epsilon: added to the variance; positive.
      bias: whether `bias` is added.

    Raises:
      InvalidValue: if `epsilon` is not positive; at trace time, if the number of features differs
        from the parameters'.

    Source: Ba et al., Layer Normalization, 2016, eq. (4), https://arxiv.org/abs/1607.06450.
    """
    return _norm("layer_norm", epsilon, bias=bias)


def rms_norm(*, epsilon: float = 1e-6) -> Network:
    """Returns RMS normalization: over the last axis of `[batch, ..., features]`.

    Computes `outputs = x / sqrt(mean(x**2) + epsilon) * scale`, with one learned `scale` for each
    feature. The argument and errors are those of `layer_norm`.

    Source: Zhang and Sennrich, Root Mean Square Layer Normalization, 2019, eq. (4),
    https://arxiv.org/abs/1910.07467.
    """
    return _norm("rms_norm", epsilon, bias=False, centre=False)


def group_norm(groups: int, *, epsilon: float = 1e-6) -> Network:
    """Returns group normalization: over groups of features of `[batch, *space, features]`.

    The statistics of a group are over its features and all spatial axes of an example, in float32
    or wider; `scale` and `bias` are learned for each feature, as in `layer_norm`. One group for all
    features is layer normalization of the whole image; one for each is instance normalization.

    Args:
      groups: the number of groups, each of adjacent features.
      epsilon: added to the variance; positive.

    Raises:
      InvalidValue: if `groups` or `epsilon` is not positive; at trace time, if `groups` does not
        divide the number of features.

    Source: Wu and He, Group Normalization, ECCV 2018, eq. (7), https://arxiv.org/abs/1803.08494.
    """
    positive_integer("group_norm", "groups", groups)
    return describe(_norm("group_norm", epsilon, groups=groups), "group_norm", groups=groups)


def _norm(
    kind: str, epsilon: float, bias: bool = True, centre: bool = True, groups: int | None = None
) -> Network:
    """Normalizes over the last axis, or over groups of features and all spatial axes."""
    positive(kind, "epsilon", epsilon)

    def init(key, inputs):
        if groups:
            multiple(kind, "features", inputs.shape[-1], "groups", groups)
        return _scale_and_bias(inputs, bias)

    def apply(params, inputs):
        x, axes = _widened(kind, params, inputs), (-1,)
        if groups:
            x = x.reshape(*inputs.shape[:-1], groups, -1)
            axes = (*range(1, x.ndim - 2), x.ndim - 1)
        if centre:
            x = x - x.mean(axes, keepdims=True)
        x = x * _inverse_root((x * x).mean(axes, keepdims=True), epsilon)
        return _affine(x.reshape(inputs.shape), params).astype(inputs.dtype)

    layer = describe(stateless(apply, init), kind)
    return layer if groups else per_place(layer, features=True)


def batch_norm(*, momentum: float = 0.99, epsilon: float = 1e-5, scale: Number = 1.0) -> Network:
    """Returns batch normalization: over all axes but the last of `[batch, ..., features]`.

    In training (a key is given), each feature is normalized by the statistics of the batch, which
    also update the running statistics in `state`. In inference, the running statistics are used
    and not changed. Padding of `Masked` sequences is excluded from the statistics. The outputs are
    multiplied by a learned `scale`, and a learned `bias` is added.

    Args:
      momentum: the weight of the old running statistics in an update, in [0, 1). As in Flax and
        Keras; PyTorch's `momentum` is one minus this.
      epsilon: added to the variance; positive.
      scale: the initial scale of each feature; 0 at the end of the branch of a `residual` makes
        the block the identity at first. May be traced.

    Raises:
      InvalidValue: if `momentum` or `epsilon` is out of range; at trace time, if the number of
        features differs from the parameters'.

    Source: Ioffe and Szegedy, Batch Normalization, ICML 2015, algorithm 1. The running variance is
    the biased one of the batch, as in Flax; PyTorch's is unbiased.
    """
    number("batch_norm", "momentum", momentum, low=0.0, high=1.0)
    positive("batch_norm", "epsilon", epsilon)
    number("batch_norm", "scale", scale)

    def init(key, inputs):
        check_place_features("batch_norm", inputs)
        inputs = values_of(inputs)
        features = inputs.shape[-1]
        state = {"mean": jnp.zeros(features, jnp.float32), "var": jnp.ones(features, jnp.float32)}
        params = _scale_and_bias(inputs)
        return params | {"scale": params["scale"] * scale}, state

    def apply(params, state, inputs, *, key=None):
        check_place_features("batch_norm", inputs)
        x = _widened("batch_norm", params, values_of(inputs))
        if key is None:
            mean, var = state["mean"], state["var"]
        else:
            mean = _mean(inputs, x)
            # The mean of the squares minus the squared mean would cancel far from 0.
            var = _mean(inputs, jnp.square(x - _last(mean, x)))
            state = {
                "mean": momentum * state["mean"] + (1 - momentum) * mean,
                "var": momentum * state["var"] + (1 - momentum) * var,
            }
        x = (x - _last(mean, x)) * _last(_inverse_root(var, epsilon), x)
        return put_back(inputs, _affine(x, params).astype(values_of(inputs).dtype)), state

    return Network(init, apply, Parts("batch_norm", (("momentum", momentum),)))


def _scale_and_bias(inputs: Any, bias: bool = True) -> dict[str, Any]:
    features = inputs.shape[-1]
    scale = {"scale": jnp.ones(features, jnp.float32)}
    return scale | ({"bias": jnp.zeros(features, jnp.float32)} if bias else {})


def _widened(kind: str, params: Any, inputs: Any) -> Any:
    """Casts the inputs to the dtype of the statistics; raises if they cannot be normalized."""
    floating(kind, inputs)
    check_features(kind, inputs, params["scale"].shape[0])
    return inputs.astype(at_least_float32(inputs.dtype))


def _mean(inputs: Any, x: Any) -> Any:
    """Returns the mean of each feature over all axes but the last, without padding."""
    axes = tuple(range(x.ndim - 1))
    if not isinstance(inputs, Masked):
        return x.mean(axes)
    count = jnp.sum(inputs.mask) * math.prod(x.shape[2:-1])
    return inputs.with_values(x).values.sum(axes) / jnp.maximum(count, 1).astype(x.dtype)


def _inverse_root(variance, epsilon):
    return 1.0 / jnp.sqrt(variance + epsilon)


def _last(vector, like):
    """Reshapes and casts a vector of features to the rank and dtype of `like`."""
    return vector.reshape((1,) * (like.ndim - 1) + vector.shape).astype(like.dtype)


def _affine(x, params):
    x = x * _last(params["scale"], x)
    return x + _last(params["bias"], x) if "bias" in params else x
