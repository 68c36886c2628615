"""Cross-entropy: its two forms, for a CPU and for accelerators, agree."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn.metrics.entropy import _gathered, _selected, cross_entropy
from tests.cases import real, whole
from tests.trees import assert_close, assert_same_bits

pytestmark = pytest.mark.usefixtures("strict")

LOGITS, LABELS = jnp.array(3 * real(4, 5, 7)), jnp.array(whole(7, 4, 5))


def test_both_forms_have_the_same_bits_and_gradients():
    factors = jnp.array(real(4, 5))

    def weighted(form):
        def total(logits):
            logits = logits.at[0, 0, 0].set(jnp.inf)
            values = form(logits, LABELS)
            return jnp.sum(jnp.where(jnp.isinf(values), 0.0, factors * values)), values

        return jax.jit(jax.grad(total, has_aux=True))(LOGITS)

    assert_same_bits(weighted(_selected), weighted(_gathered))


def test_it_is_optax_s_and_selected_on_an_accelerator():
    wanted = optax.losses.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS)
    assert_close(cross_entropy(LOGITS, LABELS), wanted)
    assert_close(cross_entropy(LOGITS, LABELS.astype(jnp.uint8)), wanted)
    texts = {
        platform: jax.jit(cross_entropy)
        .trace(LOGITS, LABELS)
        .lower(lowering_platforms=(platform,))
        .as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert "gather" in texts["cpu"]
    assert not any("gather" in texts[platform] for platform in ("cuda", "tpu"))


def test_labels_spread_over_all_classes():
    even = cross_entropy(LOGITS, LABELS, 0.25)
    targets = optax.losses.smooth_labels(jax.nn.one_hot(LABELS, 7), 0.25)
    assert_close(even, optax.losses.softmax_cross_entropy(LOGITS, targets))
    np.testing.assert_array_equal(jax.jit(cross_entropy)(LOGITS, LABELS, 0.25).shape, (4, 5))
