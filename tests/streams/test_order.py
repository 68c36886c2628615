"""The order that the host computes is that of the device, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.data.order import epoch_and_place, order_on_host, permute


@pytest.mark.parametrize("n", [1, 2, 5, 31, 1000, 60_000, 2**31 - 1])
@pytest.mark.parametrize("batch_size", [1, 12, 97])
def test_the_host_computes_the_order_of_the_device(n, batch_size):
    key = jax.random.fold_in(jax.random.key(3), 2)

    @jax.jit
    def order(step):
        epoch, place = epoch_and_place(step, batch_size, n)
        return permute(key, epoch, place, n), epoch

    words = np.asarray(jax.random.key_data(key))
    for step in (0, 5, 83_654, 10**9, 2**31 - 2):
        index, epoch = order_on_host(words, step, 2, batch_size, n)
        assert index.shape == epoch.shape == (2, batch_size)
        for number in range(2):
            want = order(jnp.int32(step + number))
            np.testing.assert_array_equal(index[number], want[0])
            np.testing.assert_array_equal(epoch[number], want[1])
