"""Replay: of all that is not finite in a program, what is blamed and what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnn.diagnosis.replay import first_not_finite
from tests.diagnosis.test_replay import fields, line, texts
from tests.registry import real

pytestmark = pytest.mark.slow


def attention(scores, mask):
    return jax.nn.softmax(jnp.where(mask, scores, -jnp.inf))


HALF = np.array([True, True, False])


NOT_BLAMED = {
    "a mask": (attention, (real(2, 3), HALF)),
    "its gradient": (jax.grad(lambda x: attention(x, HALF)[0, 0]), (real(2, 3),)),
    "an output that is infinite on purpose": (
        lambda x: jnp.where(x > 0, x, -jnp.inf), (-np.ones(3, np.float32),),
    ),
    "infinite arguments": (lambda x: jnp.minimum(x, 1.0) + x, (np.float32(np.inf),)),
    "NaN that is left out": (
        lambda x: jnp.where(x > 0, jnp.log(x), 0.0), (np.float32([-1, 0, 1]),),
    ),
    "infinity that is left out": (lambda x: 1 / (1 + jnp.exp(x)), (np.float32(1000),)),
    "the start of a maximum": (
        lambda x: lax.scan(lambda m, y: (jnp.maximum(m, y), m), -jnp.inf, x), (real(4),),
    ),
    "infinity in a branch": (
        lambda x: lax.cond(x > 0, lambda x: x, lambda x: -jnp.inf, x), (np.float32(-1),),
    ),
    "infinity in a loop": (
        lambda n: lax.fori_loop(0, n, lambda _, x: jnp.full(2, jnp.inf), jnp.ones(2)), (3,),
    ),
    "whole numbers and keys": (lambda n, key: (n + 1, key), (3, jax.random.key(0))),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_BLAMED)
def test_not_blamed(case):
    function, arguments = NOT_BLAMED[case]
    assert first_not_finite(function, *arguments) is None


def test_a_mask_over_everything_is_blamed():
    finding = first_not_finite(attention, real(2, 3), np.array([[True] * 3, [False] * 3]))
    assert fields(finding, "operation", "gave", "where") == ("sub", "NaN", line(attention))
    assert (finding.inputs[0].infinities, finding.inputs[0].nans) == (3, 0)


def test_the_gradient_of_what_is_left_out_is_blamed():
    """The logarithm is infinite as well, but its gradient is what reaches an output."""

    def safe(x):
        return jnp.where(x > 0, jnp.log(x), 0.0).sum()

    finding = first_not_finite(jax.grad(safe), jnp.zeros(2))
    assert fields(finding, "operation", "phase", "where") == ("div", "backward", line(safe))


def test_infinity_is_blamed_before_its_nan():
    def softmax(x):
        large = jnp.exp(x)
        return large / large.sum()

    finding = first_not_finite(softmax, jnp.array([89.0, 1.0]))
    assert fields(finding, "operation", "gave", "where") == ("exp", "inf", line(softmax))
    assert finding.then == f"div at {line(softmax, 2)}"
    assert texts(finding.outputs) == ("float32[2] of 2.718, 1 infinite",)


def test_what_is_said_first_is_first():
    """Of two faults in one program the first, if both spoil outputs; else the one that does."""

    def both(x):
        return jnp.log(x), jnp.sqrt(x)

    def second(x):
        return jnp.where(x > 0, jnp.log(x), 0.0), jnp.sqrt(x)

    def product(x):
        return jnp.exp(-1000 * x) * jnp.sqrt(x)

    assert first_not_finite(product, -jnp.ones(2)).operation == "sqrt"
    assert first_not_finite(both, -jnp.ones(2)).operation == "log"
    assert first_not_finite(second, -jnp.ones(2)).operation == "sqrt"


def test_overflow_of_few_bits():
    finding = first_not_finite(lambda x: x.astype(jnp.float16), jnp.array([1e5, -1.0]))
    assert fields(finding, "operation", "gave") == ("convert_element_type", "inf")
    assert texts(finding.outputs) == ("float16[2] of -1, 1 infinite",)
    finding = first_not_finite(lambda x: -jnp.exp(x), jnp.array([100.0, 1.0], jnp.bfloat16))
    assert (finding.operation, *texts(finding.inputs)) == ("exp", "bfloat16[2] from 1 to 100")


def test_constants():
    """NaN is a fault even where it was written on purpose; what is near it is named."""
    finding = first_not_finite(lambda x: jnp.where(x > 0, x, jnp.nan), -jnp.ones(2))
    assert fields(finding, "operation", "gave") == ("where", "NaN")
    table = jnp.array([1.0, jnp.nan])
    finding = first_not_finite(lambda x: x * table, jnp.ones(2))
    assert fields(finding, "operation", "gave") == ("mul", "NaN")
    assert texts(finding.inputs) == ("float32[2] of 1", "float32[2] of 1, 1 NaN")
