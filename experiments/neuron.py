"""One neuron learns AND and OR from four examples, but never XOR; a hidden layer makes it possible.

    python -m experiments.neuron

A neuron (in a layer, a node) multiplies its inputs by weights, sums them and adds a bias: its raw
output. Then it applies an activation, here the sigmoid, which squeezes any number into the range
from 0 to 1. Training finds weights and a bias that give the right answers: printed, and drawn in
`neuron.png` and `network.png`. Six hidden nodes solve XOR from all of 300 seeds, two from 22 of 50.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnn
from experiments.command import command
from experiments.fields import Hparam, hparams

ROWS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
TRUTH = {"AND": [0.0, 0.0, 0.0, 1.0], "OR": [0.0, 1.0, 1.0, 1.0], "XOR": [0.0, 1.0, 1.0, 0.0]}
# What a node detects, by the rows in which it is on. No node can be on in exactly the XOR rows.
DETECTS = {
    "0000": "nothing", "1111": "anything", "0001": "both (AND)", "0111": "at least one (OR)",
    "1000": "neither (NOR)", "1110": "not both (NAND)", "0011": "first", "0101": "second",
    "1100": "not first", "1010": "not second", "0010": "only the first", "0100": "only the second",
    "1101": "anything but only the first", "1011": "anything but only the second",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters: values that you set, while training sets the weights."""

    hidden: int = 6  # nodes of the hidden layer that solves XOR
    learning_rate: Hparam = 0.1  # step size of Adam
    steps: int = 500  # training steps, each on all four rows
    seed: int = 0  # random seed for the initial weights


def loss(outputs, batch):
    """Returns the loss in nats: -log of the sigmoid's probability of the label."""
    return optax.losses.sigmoid_binary_cross_entropy(outputs[:, 0], batch["labels"])


def metrics(outputs, batch):
    """Returns the accuracy: the fraction of rows where the sigmoid is on the right side of 0.5."""
    right = (outputs[:, 0] > 0) == (batch["labels"] > 0)
    weights = jaxnn.objectives.weights_of(batch, right)
    return {"accuracy": jaxnn.metrics.mean(right, weights, better="higher")}


def learn(config: Config, network: jaxnn.Network, gate: str, **options) -> jaxnn.Run:
    """Adjusts the network's weights so that the loss over the four rows falls."""
    goal = jaxnn.objective(loss, metrics=metrics)
    learner = jaxnn.learner(network, goal, lambda h: optax.adam(h["learning_rate"]))
    data = jaxnn.resident({"inputs": ROWS, "labels": TRUTH[gate]}, batch_size=len(ROWS))
    return jaxnn.fit(
        learner, data, steps=config.steps, key=jaxnn.keys(config.seed), hparams=hparams(config),
        every="10%", quiet=True, **options,
    )  # fmt: skip


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Solves XOR with a hidden layer, and prints what single neurons learn."""
    network = jaxnn.mlp([config.hidden], 1, activation=jnp.tanh)
    run = learn(config, network, "XOR", out=out, **options)
    if not run.members:
        node = jaxnn.serial(("neuron", jaxnn.linear(1)))
        single = {gate: learn(config, node, gate).state.params["neuron"] for gate in TRUTH}
        tell(single, run.state.params)
        if jaxnn.scale.is_first():  # only one process writes
            w, (b,) = single["AND"]["weight"][:, 0], single["AND"]["bias"]
            jaxnn.pictures.neuron(w, b, ROWS[3], jax.nn.sigmoid).savefig(f"{run.out}/neuron.png")
            picture = jaxnn.pictures.network(network, run.state.params, ROWS)
            picture.savefig(f"{run.out}/network.png")
            print(f"\nPictures: {run.out}/neuron.png (AND, by one) and {run.out}/network.png (XOR)")
    return run


def tell(single: dict, solved: dict) -> None:
    """Prints what one neuron learned for each gate, and how a hidden layer solves XOR."""
    for gate, neuron in single.items():
        show(f"{gate} by one neuron", ROWS, "x", neuron, gate)
    print("""
A neuron answers 1 on one side of a straight line and 0 on the other. Draw the rows as corners of a
square: no line has (0, 1) and (1, 0) on one side, (0, 0) and (1, 1) on the other. So one neuron
never gets more than three rows of XOR right. Its loss is smallest when it ignores its inputs and
answers 0.5, as good as tossing a coin: log(2) = 0.693 nats. (Rounding then decides what it reads.)

A hidden layer helps. Each of its nodes is a neuron that draws a line of its own, and is on (towards
1) or off (towards -1, for its activation is tanh). This is what they have learned to detect:
""")
    hidden = jax.device_get(solved["hidden_1"])
    answers = np.tanh(ROWS @ hidden["weight"] + hidden["bias"])
    print("  x1 x2      0 0     0 1     1 0     1 1   detects")
    for number, column in enumerate(answers.T, start=1):
        kind = DETECTS["".join("01"[int(answer > 0)] for answer in column)]
        print(f"  node {number}" + "".join(f"{answer:z8.2f}" for answer in column) + f"   {kind}")
    show("XOR by the output neuron, from their answers h", answers, "h", solved["output"], "XOR")


def show(title: str, inputs, name: str, neuron, gate: str) -> None:
    """Prints the computation of a neuron for each row, from its inputs to its prediction."""
    weights, bias = np.asarray(neuron["weight"])[:, 0], np.asarray(neuron["bias"])[0]
    raws, truth = (inputs * weights).sum(1) + bias, np.array(TRUTH[gate])
    right, wrong = ((raws > 0) == (truth > 0)).sum(), loss(raws[:, None], {"labels": truth}).mean()
    print(f"\n{title}: {right} of 4 rows right, loss {wrong:.3f} nats")
    heads = "".join(f"  w{n}*{name}{n}" for n in range(1, weights.size + 1))
    print(f"  x1 x2{heads}    sum  +bias   =raw  sigmoid  predicts  truth")
    print("   w:  " + "".join(f"{weight:z7.2f}" for weight in weights))
    for row, terms, raw, known in zip(ROWS, inputs * weights, raws, truth):
        figures = "".join(f"{x:z7.2f}" for x in (*terms, terms.sum(), bias, raw))
        figures += f"{jax.nn.sigmoid(raw):9.3f}{int(raw > 0):10}{known:7.0f}"
        print(f"  {row[0]:2.0f} {row[1]:2.0f}{figures}")


if __name__ == "__main__":
    command(Config, main)
