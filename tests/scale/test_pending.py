"""Where devices exchange messages, few programs of steps are pending at a time."""

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import scale
from jaxnn.loop._advance import advance
from tests.cases import real, whole
from tests.scale.simulated import on_devices


def training(count, steps, rules):
    """Returns a training step by step on so many devices."""
    learner = jaxnn.learner(jaxnn.mlp([256, 256], 3), jaxnn.classification(), optax.adam(1e-3))
    arrays = {"inputs": real(64, 64), "labels": whole(3, 64)}
    return jaxnn.train(
        learner, jaxnn.resident(arrays, batch_size=32), steps=steps, every=steps,
        key=jax.random.key(0), execution=jaxnn.Execution(form="stepped"),
        mesh=scale.mesh(devices=jax.devices()[:count]), rules=rules,
    )  # fmt: skip


@pytest.mark.parametrize(("count", "steps"), [(1, []), (2, [1, 2, 3, 4, 5])], ids=["one", "two"])
def test_each_step_is_waited_for_once_the_next_is_dispatched(count, steps, monkeypatch):
    planned = training(count, 6, scale.replicated)
    ((trial,), (data,)) = planned.start().placed.parts, planned.layout.copies(planned.data)
    waited_for, wait = [], jax.block_until_ready
    monkeypatch.setattr(jax, "block_until_ready", lambda token: waited_for.append(wait(token)))
    data = data.shuffled(trial.order)
    advance(planned.learner, trial.state, data, 6, trial.window, "stepped")
    assert list(map(int, waited_for)) == steps


def losses(rules):
    planned = training(8, 1000, getattr(scale, rules))
    return [float(progress.metrics["train/loss"]) for progress in planned]


@pytest.mark.slow
@pytest.mark.parametrize("rules", ["replicated", "fsdp"])
def test_a_thousand_steps_on_eight_simulated_devices_end(rules, tmp_path):
    """XLA aborts the process where a few dozen of their programs are pending at a time."""
    assert np.isfinite(on_devices(8, losses, tmp_path, rules)).all()
