"""The products of attention: one formula for every device, and cuDNN's kernel where it is better.

They are two batched matrix products over `[batch, heads, time, features]`, whose axes of batch and
heads stay apart, so that a mesh may split either of them. The softmax is in float32.

On NVIDIA's GPUs from Ampere on, in half precision, cuDNN's kernel computes the same without storing
the scores; it can be differentiated once, and not twice as `unroll` does. JAX traces it only where
such a GPU is. The platform that a program is lowered for decides which of the two it contains.

    >>> import jax, jax.numpy as jnp
    >>> keys = jnp.array([[[[0.0], [0.0]]]])                    # [batch, heads, time, features]
    >>> attend(keys, keys, jnp.array([[[[1.0], [3.0]]]]), causal=True).tolist()
    [[[[1.0], [2.0]]]]
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.layers._dropout import dropout as dropout_layer
from jaxnn.layers._dropout import is_zero
from jaxnn.layers._linear import at_least_float32
from jaxnn.layers._rotary import Rotary, speeds
from jaxnn.masked import Masked, values_of
from jaxnn.typing import Any, Array, Bool, Float, Int, Number


def attend(
    q: Float[Array, "batch heads time features"],
    k: Float[Array, "batch kv_heads memory features"],
    v: Float[Array, "batch kv_heads memory values"],
    *,
    seen: Bool[Array, "batch time memory"] | None = None,
    causal: bool = False,
    window: int | None = None,
    position: Int[Array, ""] | int = 0,
    dropout: Number = 0.0,
    key: Any = None,
    remembers: bool = False,
) -> Float[Array, "batch heads time values"]:
    """Returns for each query the mean of the values, weighted by how well it fits their keys.

    Args:
      q: queries; `heads` is a multiple of `kv_heads`, and head `i` looks at keys `i // multiple`.
      seen: which keys each query looks at, as of `visible`; instead of `causal` and `window`.
      causal: whether the query at place `i` looks at keys up to place `i` only.
      window: at how many of those, the last ones.
      position: the place of the first query.
      dropout: the rate of dropout of the weights.
      key: of training; without it nothing is dropped.
      remembers: whether keys and values are a memory with places that are still empty.
    """
    drops = key is not None and not is_zero(dropout)

    def products(q, k, v, seen):
        batch, heads, time, features = q.shape
        kv_heads, memory = k.shape[1:3]
        group = heads // kv_heads
        # The queries of a group share their keys, so that one product serves them all.
        q = q.reshape(batch, kv_heads, group * time, features)
        exact = at_least_float32(q.dtype)
        scores = jnp.einsum("bhqf,bhkf->bhqk", q, k, preferred_element_type=exact)
        scores = scores * (1.0 / math.sqrt(features))
        lowest = jnp.finfo(scores.dtype).min
        if seen is not None:
            apart = scores.reshape(batch, kv_heads, group, time, memory)
            scores = jnp.where(seen[:, None, None], apart, lowest).reshape(scores.shape)
        elif causal:
            before: Any = _seen(time, memory, window, position)
            before = jnp.broadcast_to(before[None, None, None], (1, 1, group, time, memory))
            scores = jnp.where(before.reshape(1, 1, group * time, memory), scores, lowest)
        weights = jax.nn.softmax(scores, -1).astype(v.dtype)
        if drops:
            weights, _ = dropout_layer(dropout).apply({}, {}, weights, key=key)
        mixed = jnp.einsum("bhqk,bhkf->bhqf", weights, v)
        return mixed.reshape(batch, heads, time, -1)

    if drops or remembers or not _is_for_cudnn(q, k):
        return products(q, k, v, seen)
    kernel = partial(_fused, causal=causal, window=window)
    return lax.platform_dependent(q, k, v, seen, cuda=kernel, default=products)


def visible(queries: Any, memory: Any, causal: bool, window: int | None) -> Any:
    """Returns which places of a memory each query sees, bool `[batch, time, memory]`.

    `None` if neither is `Masked`, so that all rows are alike.
    """
    pair = queries, memory
    if not any(isinstance(x, Masked) for x in pair):
        return None
    arrays = [values_of(x) for x in pair]
    seen = jnp.ones((arrays[0].shape[0], 1, arrays[1].shape[1]), bool)
    if isinstance(memory, Masked):
        seen = memory.mask[:, None]
    if causal:
        time, other = (
            x.places() if isinstance(x, Masked) else lax.iota(jnp.int32, x.shape[1])[None]
            for x in pair
        )
        seen = seen & (other[:, None] <= time[..., None])
        if window is not None:
            seen = seen & (other[:, None] > time[..., None] - window)
    segments: list[Any] = [getattr(x, "segments", None) for x in pair]
    if all(x is not None for x in segments):
        seen = seen & (segments[0][..., None] == segments[1][:, None])
    return jnp.broadcast_to(seen, (*arrays[0].shape[:2], arrays[1].shape[1]))


def rotated(
    x: Float[Array, "batch heads time features"],
    position: Int[Array, ""] | int,
    rotary: float | Rotary,
    places: Int[Array, "batch time"] | None = None,
) -> Float[Array, "batch heads time features"]:
    """Turns the features of each place by angles that grow with it, so that products tell distance.

    `position` is the place of the first; or `places`, below `time`, are those of all. Feature `i`
    and feature `i + features / 2`, of an even number, are the two sides of a plane that is turned
    by `place * base ** (-2 i / features)`, or slower where `rotary` is stretched.

    Source: Su et al., RoFormer, 2021, eq. (15) and (34), https://arxiv.org/abs/2104.09864, with the
    planes of GPT-NeoX and Llama.
    """
    time, half = x.shape[2], x.shape[3] // 2
    exact = at_least_float32(x.dtype)
    row = (position + lax.iota(jnp.int32, time)).astype(exact)
    angles = row[:, None] * speeds(rotary, half, exact)[None]
    cos, sin = (f(angles)[None, None] for f in (jnp.cos, jnp.sin))
    if places is not None:
        cos, sin = (jnp.take(table[0, 0], places, axis=0)[:, None] for table in (cos, sin))
    left, right = jnp.split(x.astype(exact), 2, axis=-1)
    turned = jnp.concatenate([left * cos - right * sin, right * cos + left * sin], -1)
    return turned.astype(x.dtype)


def _seen(time: int, memory: int, window: int | None, position: Any) -> Any:
    """Returns which keys each query looks at, `[time, memory]`."""
    place = (position + lax.iota(jnp.int32, time))[:, None]
    other = lax.iota(jnp.int32, memory)[None]
    seen = other <= place
    return seen if window is None else seen & (other > place - window)


def _is_for_cudnn(q: Any, k: Any) -> bool:
    """Whether cuDNN's kernel takes it on the GPUs here: half precision, and sizes it supports."""
    features = q.shape[-1]
    is_half = q.dtype in (jnp.bfloat16, jnp.float16)
    even = q.shape[2] % 2 == 0 and k.shape[2] % 2 == 0
    return is_half and even and features % 8 == 0 and features <= 128 and _has_ampere()


def _has_ampere() -> bool:
    """Whether this machine has GPUs of NVIDIA, all of them from Ampere on."""
    try:
        gpus = jax.local_devices(backend="cuda")
    except RuntimeError:  # JAX has no such platform here
        return False
    return all(float(gpu.compute_capability) >= 8.0 for gpu in gpus)


def _fused(q: Any, k: Any, v: Any, seen: Any, *, causal: bool, window: int | None) -> Any:
    if seen is not None:
        seen, causal, window = seen[:, None], False, None
    mixed = jax.nn.dot_product_attention(
        *(x.swapaxes(1, 2) for x in (q, k, v)),
        mask=seen,
        is_causal=causal,
        local_window_size=None if window is None else (window - 1, 0),
        implementation="cudnn",
    )
    return mixed.swapaxes(1, 2)
