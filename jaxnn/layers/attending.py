"""Scaled dot-product attention: one implementation for all devices, or cuDNN's fused kernel.

The general implementation is two batched matrix products of `[batch, heads, time, features]`. The
batch and head axes are not merged, so that a mesh may shard either. The softmax is in float32. Long
causal sequences are computed in blocks of queries, each with the keys that it can attend to: four
blocks compute 5/8 of the scores.

On NVIDIA GPUs from Ampere on, in half precision, cuDNN's kernel computes the same without storing
the scores. It can be differentiated once, but not twice, as `unroll` requires. JAX can trace it
only on a machine with such a GPU; the platform that a program is lowered for selects one of the
two.

    >>> import jax, jax.numpy as jnp
    >>> keys = jnp.array([[[[0.0], [0.0]]]])                    # [batch, heads, time, features]
    >>> attend(keys, keys, jnp.array([[[[1.0], [3.0]]]]), causal=True).tolist()
    [[[[1.0], [2.0]]]]
"""

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.layers._dropout import dropout as dropout_layer
from jaxnn.layers._dropout import is_zero
from jaxnn.layers._linear import at_least_float32
from jaxnn.layers._platforms import by_platform
from jaxnn.layers._rotary import Rotary, frequencies
from jaxnn.masked import Masked
from jaxnn.typing import Any, Array, Float, Int, Number, Size

# A causal sequence of this number of time steps is computed in two blocks of queries, and one of
# four times as many in four. On a CPU, shorter ones are slower in blocks, and with more blocks,
# compiling takes longer and little is gained.
_LONG = 128


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["present", "places", "segments"],
    meta_fields=["alone"],
)
@dataclass(frozen=True)
class Visibility:
    """The keys that each query of `Masked` sequences may attend to, besides `causal` and `window`.

    The fields are vectors instead of a matrix `[batch, time, memory]`: comparing them while the
    scores are computed costs next to nothing.

    Attributes:
      present: which keys are not padding, bool `[batch, memory]`.
      places: the positions of the queries `[batch, time]` and of the keys `[batch, memory]` in
        their sequences, as a pair, if they differ from the indices along the axes.
      segments: the sequences that queries and keys belong to, as such a pair, if rows are packed.
      alone: whether a query that is not padding may have no key to attend to.
    """

    present: Any = None
    places: Any = None
    segments: Any = None
    alone: bool = False

    def part(self, queries: slice, keys: slice) -> "Visibility":
        """Returns the `Visibility` of some queries and keys, without `places`."""
        present = None if self.present is None else self.present[:, keys]
        segments = self.segments and (self.segments[0][:, queries], self.segments[1][:, keys])
        return Visibility(present, None, segments, self.alone)


_ALL = Visibility()


def attend(
    q: Float[Array, "batch heads time features"],
    k: Float[Array, "batch kv_heads memory features"],
    v: Float[Array, "batch kv_heads memory values"],
    *,
    seen: Visibility = _ALL,
    causal: bool = False,
    window: int | None = None,
    position: Int[Array, ""] | int = 0,
    dropout: Number = 0.0,
    key: Any = None,
    remembers: bool = False,
) -> Float[Array, "batch heads time values"]:
    """Returns, for each query, the mean of the values weighted by `softmax(q @ k.T / sqrt(n))`.

    Args:
      q: queries `[batch, heads, time, features]`. `heads` is a multiple of `kv_heads`; query head
        `i` attends to key head `i // (heads / kv_heads)`.
      k: keys `[batch, kv_heads, memory, features]`.
      v: values `[batch, kv_heads, memory, values]`.
      seen: the result of `visible`.
      causal: whether the query at position `i` attends to the keys up to position `i` only.
      window: the number of those keys that it attends to, the last ones; all by default.
      position: the position of the first query.
      dropout: the dropout rate of the weights.
      key: the key for dropout; `None` in inference.
      remembers: whether keys and values are a cache whose last positions are still empty.

    Returns:
      Outputs `[batch, heads, time, values]`, in the dtype of the values.
    """
    drops = key is not None and not is_zero(dropout)
    time = q.shape[2]

    def products(q, k, v, seen, position, key):
        batch, heads, time, features = q.shape
        kv_heads, memory = k.shape[1:3]
        group = heads // kv_heads
        # The queries of a group share their keys, so that one product serves them all.
        q = q.reshape(batch, kv_heads, group * time, features)
        exact = at_least_float32(q.dtype)
        scores = jnp.einsum("bhqf,bhkf->bhqk", q, k, preferred_element_type=exact)
        scores = scores * (1.0 / math.sqrt(features))
        lowest = float(jnp.finfo(scores.dtype).min)
        if seen.present is not None:
            # Half of the lowest number keeps the sum with a score finite; the weight is exactly 0.
            bias = jnp.where(seen.present, 0.0, 0.5 * lowest).astype(scores.dtype)
            scores = scores + bias[:, None, None]
        sees = _seen(time, memory, group, seen, causal, window, position)
        if sees is not None:
            scores = jnp.where(sees, scores, lowest)
        weights = jax.nn.softmax(scores, -1).astype(v.dtype)
        if drops:
            weights, _ = dropout_layer(dropout).apply({}, {}, weights, key=key)
        mixed = jnp.einsum("bhqk,bhkf->bhqf", weights, v)
        if seen.alone:
            mixed = jnp.where(_any(sees, seen.present), mixed, jnp.zeros_like(mixed))
        return mixed.reshape(batch, heads, time, -1)

    def blocks(q, k, v, seen):
        outputs, size = [], -(-time // (4 if time >= 4 * _LONG else 2))
        for start in range(0, time, size):
            rows = slice(start, start + size)
            keys = slice(0 if window is None else max(0, start - window + 1), rows.stop)
            own = q[:, :, rows], k[:, :, keys], v[:, :, keys], seen.part(rows, keys)
            draws = None if key is None else jax.random.fold_in(key, start)
            outputs.append(products(*own, start - keys.start, draws))
        return jnp.concatenate(outputs, 2)

    def general(q, k, v, seen):
        starts = isinstance(position, int) and position == 0
        by_index = causal and starts and seen.places is None and k.shape[2] == time
        if by_index and isinstance(time, int) and time >= _LONG:
            return blocks(q, k, v, seen)
        return products(q, k, v, seen, position, key)

    if drops or remembers or not _is_for_cudnn(q, k):
        return general(q, k, v, seen)
    kernel = partial(_fused, causal=causal, window=window)
    return by_platform(q, k, v, seen, cuda=kernel, default=general)


def visible(queries: Any, memory: Any, causal: bool, window: int | None) -> Visibility:
    """Returns the `Visibility` of the inputs of the queries, and of those of keys and values."""
    pair = queries, memory
    own = queries is memory
    present = memory.mask if isinstance(memory, Masked) else None
    places = segments = None
    if any(isinstance(x, Masked) for x in pair) and causal and not (own and window is None):
        # Axis indices give the order within one sequence, but neither distances, which padding
        # changes, nor the positions of a second sequence.
        places = tuple(
            x.places() if isinstance(x, Masked) else lax.iota(jnp.int32, x.shape[1])[None]
            for x in pair
        )
    if all(getattr(x, "segments", None) is not None for x in pair):
        segments = queries.segments, memory.segments
    alone = not own and (present is not None or segments is not None)
    return Visibility(present, places, segments, alone)


def rotated(
    x: Float[Array, "batch heads time features"],
    position: Int[Array, ""] | int,
    rotary: float | Rotary,
    places: Int[Array, "batch time"] | None = None,
) -> Float[Array, "batch heads time features"]:
    """Applies rotary position embeddings, so that dot products depend on relative positions.

    Features `i` and `i + features / 2` form a pair, which is rotated by `position * base ** (-2 i /
    features)` radians, or less if `rotary` is scaled, and multiplied by `rotary.scale`. The number
    of features is even.

    Args:
      x: queries or keys `[batch, heads, time, features]`.
      position: the position of the first time step.
      rotary: the base, or the settings.
      places: the positions of all time steps, below `time`, `[batch, time]`; they replace
        `position`.

    Source: Su et al., RoFormer, 2021, eq. (15) and (34), https://arxiv.org/abs/2104.09864, with the
    pairs of GPT-NeoX and Llama.
    """
    time, half = x.shape[2], x.shape[3] // 2
    exact = at_least_float32(x.dtype)
    row = (position + lax.iota(jnp.int32, time)).astype(exact)
    angles = row[:, None] * frequencies(rotary, half, exact)[None]
    cos, sin = (f(angles)[None, None] for f in (jnp.cos, jnp.sin))
    if isinstance(rotary, Rotary) and rotary.scale != 1.0:
        cos, sin = cos * rotary.scale, sin * rotary.scale
    if places is not None:
        cos, sin = (jnp.take(table[0, 0], places, axis=0)[:, None] for table in (cos, sin))
    left, right = jnp.split(x.astype(exact), 2, axis=-1)
    outputs = jnp.concatenate([left * cos - right * sin, right * cos + left * sin], -1)
    return outputs.astype(x.dtype)


def _seen(
    time: Size, memory: Size, group: int, seen: Visibility, causal: bool, window: Any, position: Any
) -> Any:
    """Returns which keys each query attends to, apart from `seen.present`; `None` means all.

    The boolean result broadcasts to `[batch, kv_heads, group * time, memory]`.
    """
    looks = None
    if causal:
        # Compilers remove the tiling when there is one query per group.
        places = seen.places or (
            (position + lax.iota(jnp.int32, time))[None],
            lax.iota(jnp.int32, memory)[None],
        )
        place, other = jnp.tile(places[0], (1, group))[:, None, :, None], places[1][:, None, None]
        looks = other <= place
        if window is not None:
            looks = looks & (other > place - window)
    if seen.segments is not None:
        ours, theirs = seen.segments
        same = jnp.tile(ours, (1, group))[:, None, :, None] == theirs[:, None, None]
        looks = same if looks is None else looks & same
    return looks


def _any(looks: Any, present: Any) -> Any:
    """Returns which queries have a key to attend to, bool `[batch, 1, group * time, 1]`."""
    present = True if present is None else present[:, None, None]
    return jnp.any(present if looks is None else looks & present, -1, keepdims=True)


def _is_for_cudnn(q: Any, k: Any) -> bool:
    """Returns whether cuDNN's kernel supports the dtype, the sizes and the GPUs of this machine."""
    features = q.shape[-1]
    is_half = q.dtype in (jnp.bfloat16, jnp.float16)
    even = q.shape[2] % 2 == 0 and k.shape[2] % 2 == 0
    return is_half and even and features % 8 == 0 and features <= 128 and _has_ampere()


def _has_ampere() -> bool:
    """Returns whether this machine has NVIDIA GPUs, all of them Ampere or newer."""
    try:
        gpus = jax.local_devices(backend="cuda")
    except RuntimeError:  # there is no CUDA backend
        return False
    return all(float(gpu.compute_capability) >= 8.0 for gpu in gpus)


def _fused(q: Any, k: Any, v: Any, seen: Visibility, *, causal: bool, window: int | None) -> Any:
    """Computes `attend` by cuDNN's fused kernel."""
    mask: Any = None
    if jax.tree.leaves(seen):
        looks = _seen(q.shape[2], k.shape[2], 1, seen, causal, window, 0)
        present = True if seen.present is None else seen.present[:, None, None]
        mask = present if looks is None else looks & present
        mask = jnp.broadcast_to(mask, (q.shape[0], 1, q.shape[2], k.shape[2]))
        causal, window = False, None
    mixed = jax.nn.dot_product_attention(
        *(x.swapaxes(1, 2) for x in (q, k, v)),
        mask=mask,
        is_causal=causal,
        local_window_size=None if window is None else (window - 1, 0),
        implementation="cudnn",
    )
    mixed = mixed.swapaxes(1, 2)
    if seen.alone:
        mixed = jnp.where(mask.any(-1, keepdims=True), mixed, jnp.zeros_like(mixed))
    return mixed
