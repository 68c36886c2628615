"""A network learns to learn: after one gradient step on ten points, it knows the whole sine.

    python -m experiments.maml_sine

Model-agnostic meta-learning (Finn et al., ICML 2017, section 5.1). A task is a sine with an
amplitude from 0.1 to 5 and a phase from 0 to pi, on inputs from -5 to 5. The network adapts its
parameters to some points of a task by gradient descent, and then predicts other points. Training
optimizes the initial parameters, by gradients through this adaptation. As a baseline, a second
network trains on all tasks as if they were one, and is adapted in the same way. The results are
mean squared errors on 600 new tasks after 0, 1 and 10 steps. In the paper, with ten points, they
go from 3 to about 0.5 and 0.1.
"""

from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnn
from experiments.command import command
from jaxnn.storage.opening import open_directory

# The adaptation during training: one differentiable step, or none.
DESCENTS = {"maml": lambda inner: jaxnn.unroll(inner, 1), "plain": lambda _: lambda *given: given}


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters, from the paper where it states them."""

    shots: int = 10  # points per task to adapt to in training
    inner_rate: float = 0.01  # step size of the adaptation
    plain_rate: float = 0.01  # the same for the baseline: the best of 0.001 to 0.02
    learning_rate: float = 1e-3  # step size of Adam for the initial parameters
    batch_size: int = 25  # tasks per training step
    steps: int = 70_000  # training steps of each of the two networks
    seed: int = 0  # random seed for initialization and tasks


def adapting(shots: int, descend, rate) -> jaxnn.Network:
    """Returns a network that adapts to some points of a task, and then predicts others."""
    network = jaxnn.mlp([40, 40], 1)
    inner = jaxnn.learner(network, jaxnn.regression(), optax.sgd(rate))

    def predicted(params, inputs):
        points = jaxnn.Resident(inputs["points"], jax.random.key(0), batch_size=shots)
        state = inner.init(points.key, {}, points.in_order(0))._replace(params=params)
        return inner.predict(descend(inner)(state, points)[0], inputs["queries"])

    def apply(params, state, inputs, *, key=None):
        return jax.vmap(predicted, (None, 0))(params, inputs), state

    def init(key, inputs):
        return network.init(key, jnp.zeros((1, 1)))

    return jaxnn.Network(init, apply)


def sines(shots: int, queries: int) -> jaxnn.Objective:
    """Draws a task for each example: new tasks in every training step, and others for tests."""

    def task(key):
        amplitude, phase, inputs = jax.random.split(key, 3)
        x = jax.random.uniform(inputs, (shots + queries, 1), minval=-5.0, maxval=5.0)
        a = jax.random.uniform(amplitude, minval=0.1, maxval=5.0)
        y = a * jnp.sin(x - jax.random.uniform(phase, maxval=jnp.pi))
        points = {"inputs": x[:shots], "labels": y[:shots]}
        return {"points": points, "queries": x[shots:]}, y[shots:]

    def prepare(key, batch):
        inputs, labels = jax.vmap(task)(jaxnn.objectives.example_keys(key, batch))
        return {**batch, "inputs": inputs, "labels": labels}

    return jaxnn.regression()._replace(prepare=prepare)


def adapted(shots: int, h) -> jaxnn.Network:
    """Returns the network for a test, with the number of steps as an input of the program."""
    return adapting(shots, lambda inner: partial(jaxnn.run, inner, n=h["steps"]), h["rate"])


def errors(networks) -> dict[str, float]:
    """Returns the mean squared errors on new tasks for `{name: (params, rate)}`."""
    tasks, result = jaxnn.resident({"inputs": np.zeros(600)}, batch_size=200), {}
    for shots in (5, 10):
        judge = jaxnn.learner(partial(adapted, shots), sines(shots, 100), optax.identity())
        for name, steps in product(networks, (0, 1, 10)):
            params, rate = networks[name]
            state = judge.init(tasks.key, {"rate": rate, "steps": steps}, tasks.in_order(0))
            loss = jaxnn.evaluate(judge, state._replace(params=params), tasks)["loss"]
            result[f"test/{name}_{shots}-shot_mse_after_{steps}"] = loss
    return result


def main(config: Config, out: jaxnn.Directory) -> jaxnn.Run:
    """Trains both networks, and adapts them to new tasks."""
    data = jaxnn.resident({"inputs": np.zeros(config.batch_size)}, batch_size=config.batch_size)
    objective, optimizer = sines(config.shots, config.shots), optax.adam(config.learning_rate)
    runs, rates = {}, {"maml": config.inner_rate, "plain": config.plain_rate}
    with open_directory(out) as directory:
        for name, descend in DESCENTS.items():
            network = adapting(config.shots, descend, rates[name])
            runs[name] = jaxnn.fit(
                jaxnn.learner(network, objective, optimizer), data, steps=config.steps,
                key=jaxnn.keys(config.seed), out=directory.part(name),
            )  # fmt: skip
        networks = {name: (run.state.params, rates[name]) for name, run in runs.items()}
        seconds = sum(run.result["seconds"] for run in runs.values())
        result = {"experiment": "maml_sine", "steps": config.steps, "seconds": seconds}
        result |= errors(networks) | {k: runs["maml"].result[k] for k in ("device", "jax")}
        directory.finish(result)
    return replace(runs["maml"], result=result, out=directory.path)


if __name__ == "__main__":
    command(Config, main, sweeps=True)
