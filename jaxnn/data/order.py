"""Random access into a shuffled order: the example at place `i` of epoch `e`.

The order of the data is a function of a key and a place, so a run stores only its step, and the
compiled program computes the order. Shuffling all examples to read a few would take longer than
training a small network: on 2 cores, 20 to 35 ms for 60,000 examples, compared with 2 microseconds
for a batch of 128 here.

    >>> import jax, jax.numpy as jnp
    >>> place = jnp.arange(6, dtype=jnp.uint32)
    >>> order = permute(jax.random.key(0), jnp.zeros_like(place), place, 6)
    >>> sorted(order.tolist())
    [0, 1, 2, 3, 4, 5]
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnn.typing import Any, Array, Int, Key, UInt32

ROUNDS = 24


def permute(
    key: Key[Array, ""],
    epoch: UInt32[Array, "*shape"],
    place: UInt32[Array, "*shape"],
    n: UInt32[Array, ""] | int,
) -> UInt32[Array, "*shape"]:
    """Returns the example at each place of each epoch: a permutation of `0 .. n - 1` per epoch.

    Args:
      key: the key of the orders of all epochs.
      epoch: the numbers of the epochs, uint32.
      place: the places within the epochs, uint32, below `n`.
      n: the number of examples, below 2**31; may be traced.

    The shuffle is "swap or not": a round pairs every place with `(k - place) mod n` for a random
    `k`, and a random bit for each pair determines whether the two are exchanged. Each round is its
    own inverse, so the composition of all rounds is a permutation for any hash function.

    Source: Hoang, Morris and Rogaway, An Enciphering Scheme Based on a Card Shuffle, CRYPTO 2012,
    figure 1, https://arxiv.org/abs/1208.1176.
    """
    size = jnp.uint32(n)
    low, high = jax.random.key_data(key).astype(jnp.uint32).reshape(-1)[:2]
    base = _hash(_hash(epoch ^ low) + high)

    def exchange(number, place):
        salt = jnp.uint32(number) * jnp.uint32(0x9E3779B9)
        pivot = _hash(base + salt) % size
        partner = pivot + size - place
        partner = jnp.where(partner >= size, partner - size, partner)
        bit = _hash(jnp.maximum(place, partner) ^ _hash(base ^ ~salt)) & jnp.uint32(1)
        return jnp.where(bit == 1, partner, place)

    return lax.fori_loop(0, ROUNDS, exchange, place)


def epoch_and_place(step: Int[Array, ""] | int, batch_size: int, n: int) -> tuple[Array, Array]:
    """Returns the epoch and place, uint32 `[batch_size]`, of every example of a training batch.

    Batches are always full and may span epochs: example `i` of a batch is number
    `step * batch_size + i` of the run. This product exceeds 32 bits in a long run, so the quotient
    and remainder by `n` are computed one bit of `batch_size` at a time.
    """
    size = jnp.uint32(n)
    step = jnp.asarray(step).astype(jnp.uint32)
    rounds, rest = step // size, step % size
    epoch, place = jnp.uint32(0), jnp.uint32(0)
    for bit in f"{batch_size:b}":
        # Two places below 2**31 add up to less than 2**32, but three may not.
        epoch, place = epoch * 2 + place * 2 // size, place * 2 % size
        if bit == "1":
            epoch, place = epoch + (place + rest) // size, (place + rest) % size
    epoch = epoch + rounds * jnp.uint32(batch_size)
    places = place + lax.iota(jnp.uint32, batch_size)
    return epoch + places // size, places % size


def order_on_host(
    key: Any, step: int, count: int, batch_size: int, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the examples of training batches and their epochs with NumPy.

    The results equal those of `permute` and `epoch_and_place` on the device exactly, so that data
    that are read on the host have the same order.

    Args:
      key: the two words of the key of the order, from `jax.random.key_data`.
      step: the step of the first batch.
      count: the number of batches.
      batch_size: the number of examples in a batch.
      n: the number of examples, below 2**31.

    Returns:
      `(index, epoch)`: int64 and uint32, `[count, batch_size]` each.
    """
    position = np.arange(count * batch_size, dtype=np.uint64) + np.uint64(step * batch_size)
    epoch, place = np.divmod(position, np.uint64(n))
    place = place.astype(np.uint32)
    first, last = int(epoch[0]), int(epoch[-1])
    low, high = np.asarray(key, np.uint32).reshape(-1)[:2]
    size = np.uint32(n)
    epochs = np.arange(first, last + 1, dtype=np.uint64).astype(np.uint32)
    base = _hash(_hash(epochs ^ low) + high)
    salts = np.arange(ROUNDS, dtype=np.uint32)[:, None] * np.uint32(0x9E3779B9)
    # Two of the three hashes are computed once per epoch and round, not per example.
    pivots, seeds = _hash(base + salts) % size + size, _hash(base ^ ~salts)
    which = (epoch - np.uint64(first)).astype(np.intp) if last > first else slice(None)
    # In place, and without `where`, which takes ten times as long as one of these operations.
    partner, other, change = np.empty_like(place), np.empty_like(place), np.empty_like(place)
    for pivot, seed in zip(pivots, seeds):
        np.subtract(pivot[which], place, out=partner)
        np.minimum(partner, np.subtract(partner, size, out=other), out=partner)  # modulo size
        np.bitwise_xor(np.maximum(place, partner, out=change), seed[which], out=change)
        _hash_in_place(change, other)
        change &= np.uint32(1)
        np.negative(change, out=change)  # all bits, or none
        partner ^= place
        partner &= change
        place ^= partner
    shape = count, batch_size
    return place.astype(np.int64).reshape(shape), epoch.astype(np.uint32).reshape(shape)


def _hash(x: Any) -> Any:
    """Hashes uint32 arrays: every bit of the result depends on every bit of `x`.

    Source: the constants of Wellons, Prospecting for Hash Functions, 2018 ("lowbias32"),
    https://nullprogram.com/blog/2018/07/31/.
    """
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _hash_in_place(x: np.ndarray, memory: np.ndarray) -> None:
    """Computes `_hash` of a NumPy array in place; `memory` is a buffer of the same shape."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        np.bitwise_xor(x, np.right_shift(x, shift, out=memory), out=x)
        if factor > 1:
            np.multiply(x, np.uint32(factor), out=x)
