"""The order of the data: permutations that are as good as random, and arithmetic that is exact."""

from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnn.data.order import epoch_and_place, permute

pytestmark = pytest.mark.usefixtures("strict")

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 100, 255, 256, 257, 1000, 4095, 4096, 4097]


def orders(key, n, epochs):
    """Returns the order of each of the epochs, `[epochs, n]`."""
    epoch, place = np.indices((epochs, n)).astype(np.uint32)
    return np.asarray(jax.jit(lambda e, p: permute(key, e, p, n))(epoch, place))


@pytest.mark.parametrize("n", SIZES)
def test_every_order_is_a_permutation(n, key):
    computed = orders(key, n, 3)
    assert computed.dtype == np.uint32
    np.testing.assert_array_equal(np.sort(computed, 1), np.broadcast_to(np.arange(n), (3, n)))
    if n > 7:
        other = orders(jax.random.key(1), n, 3)
        different = {tuple(order) for order in (*computed, *other, np.arange(n))}
        assert len(different) == 7, "each key and epoch has an order of its own"


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_all_orders_are_as_likely(n, key):
    """A chi-square test over all n! orders, which would reject a fair shuffle once in 10,000."""
    epochs = 200 * factorial(n)
    _, counts = np.unique(orders(key, n, epochs), axis=0, return_counts=True)
    assert len(counts) == factorial(n)
    assert stats.chisquare(counts).pvalue > 1e-4


def test_all_places_and_neighbours_are_as_likely(key):
    n, epochs = 20, 20000
    computed = orders(key, n, epochs).astype(np.int64)
    at = np.stack([np.bincount(computed[:, place], minlength=n) for place in range(n)])
    assert stats.chi2.sf(((at - epochs / n) ** 2 / (epochs / n)).sum(), (n - 1) ** 2) > 1e-4
    steps = (computed[:, 1:] - computed[:, :-1]) % n
    counts = np.bincount(steps.ravel(), minlength=n)
    assert counts[0] == 0 and stats.chisquare(counts[1:]).pvalue > 1e-4
    early = computed[:, :-1] < computed[:, 1:]
    assert abs(early.mean() - 0.5) < 4 * np.sqrt(0.25 / early.size)
    same = (computed[1:] == computed[:-1]).mean()  # one epoch says nothing about the next
    assert abs(same - 1 / n) < 4 * np.sqrt(1 / n / computed.size)


def test_a_large_order_is_uniform_too(key):
    """The examples at the first places of ten epochs come from everywhere."""
    n, batch = 60000, 4096
    epoch, place = np.indices((10, batch)).astype(np.uint32)
    chosen = np.asarray(jax.jit(lambda e, p: permute(key, e, p, n))(epoch, place)).ravel()
    assert stats.kstest(chosen / n, "uniform").pvalue > 1e-4
    counts = np.bincount(chosen * 50 // n, minlength=50)
    assert stats.chisquare(counts).pvalue > 1e-4


BIG = 2**31 - 1


@pytest.mark.parametrize(
    "batch, n",
    [(1, 1), (1, 7), (3, 7), (7, 7), (128, 60000), (60000, 60000), (100, 1437), (4096, 50_000_000),
     (65536, 1_500_000_000), (1000, BIG), (4095, BIG - 1)],
)  # fmt: skip
def test_epoch_and_place_are_exact(batch, n):
    """Python's whole numbers are as long as it takes; epochs count modulo 2**32."""
    compute = jax.jit(lambda step: epoch_and_place(step, batch, n))
    for step in (0, 1, 2, 5, 1000, 123_456_789, 2**30 + 1, BIG - 1, BIG):
        numbers = [step * batch + i for i in range(batch)]
        epoch, place = (np.asarray(x) for x in compute(jnp.int32(step)))
        assert epoch.tolist() == [number // n % 2**32 for number in numbers]
        assert place.tolist() == [number % n for number in numbers]
