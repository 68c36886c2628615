"""Durations: every unit, in training steps."""

import numpy as np
import pytest

import jaxnn


def data(batch_size, examples=300):
    return jaxnn.resident({"inputs": np.zeros((examples, 2))}, batch_size=batch_size)


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        (7, 7),
        (np.int64(7), 7),
        ("7", None),
        ("7 steps", 7),
        ("1 step", 1),
        ("10 epochs", 94),  # 93.75, rounded up
        ("1.5 epochs", 15),  # 14.06
        ("1e1 epochs", 94),
        ("1e-05 epochs", 1),  # as Python writes 0.00001
        (" 640 Examples ", 20),
        ("641 examples", 21),
        ("5%", 50),
        ("0.25 %", 3),
    ],
)
def test_durations(duration, steps):
    if steps is None:
        with pytest.raises(jaxnn.InvalidValue, match="Pass, say, duration='10 epochs'"):
            jaxnn.data.steps_of(duration, data(32), total=1000)
    else:
        assert jaxnn.data.steps_of(duration, data(32), total=1000) == steps


def test_whole_epochs_are_not_rounded_up_by_rounding_errors():
    few = data(3, examples=10)  # 3 * (10 / 3) comes out exact only when rounded first
    assert [jaxnn.data.steps_of(f"{3 * n} epochs", few) for n in (1, 7, 100, 333)] == [
        10, 70, 1000, 3330,
    ]  # fmt: skip
