"""What the page of any trained run has to show, computed from its files and parameters by NumPy."""

import json
from typing import NamedTuple

import numpy as np
import pytest
from sklearn import metrics as measures

import jaxnn
from jaxnn import report
from jaxnn.names import named_leaves
from jaxnn.storage import recording
from tests.accounts import same
from tests.pages import Page

WORDS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "mae": "mean absolute error (mae)",
    "r2": "explained share of the variance (r2)",
    "bits_per_byte": "bits per character",
    "perplexity": "perplexity",
    "learning_rate": "learning rate",
}
PARTS = {"train": "training", "test": "held-out"}


class Trained(NamedTuple):
    """A directory, its page and files, the parameters by name, and the examples."""

    out: object
    page: Page
    rows: list
    params: dict
    seen: object
    size: int
    train: dict
    test: dict

    @property
    def speed(self):
        return json.loads((self.out / "speed.json").read_text())

    @property
    def last(self):
        return self.rows[-1]["step"]

    def outputs(self, inputs):
        return perceptron(self.params, inputs)


def perceptron(params, inputs):
    """Returns the outputs of an `mlp` with one hidden layer."""
    flat = inputs.reshape(len(inputs), -1).astype(float)
    hidden = flat @ params["hidden_1/weight"] + params["hidden_1/bias"]
    return np.maximum(hidden, 0) @ params["output/weight"] + params["output/bias"]


def read(out, train=None, test=None, part=""):
    run = out / part
    size = sum(each.stat().st_size for each in out.rglob("*") if each.is_file())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    params = {name: np.asarray(x) for name, x in named_leaves(jaxnn.load(run).raw_params).items()}
    page = Page(report.write(out).read_text())
    return Trained(out, page, rows, params, recording.read(out), size, train, test)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def name_of(metric):
    part, _, metric = metric.rpartition("/")
    if metric == "learning_rate":
        return WORDS[metric]
    return f"{WORDS[metric]} on {PARTS[part]} examples"


def results(run, best=None):
    """Returns the table of results, where `best` is the row of the best state."""
    *_, last = run.rows
    heads = [f"best state, step {best['step']}"] if best else []
    shown = ["metric", *heads, f"last, step {run.last}", "best ever", "at training step"]
    for name in (name for name in last if "/" in name):
        higher = name.endswith(("accuracy", "r2"))
        top = (max if higher else min)(run.rows, key=lambda row: row[name])
        shown += [name_of(name), *([best[name]] if best else []), last[name]]
        shown += ["", ""] if name.endswith("learning_rate") else [top[name], top["step"]]
    return shown


def gradients(run, labels):
    """Returns the gradients, with two digits, at up to 8 of the recorded steps."""
    places = np.linspace(0, len(run.seen.frames) - 1, min(8, len(run.seen.frames)))
    frames = [run.seen.frames[place] for place in places.round().astype(int)]
    shown = ["layer", *[f"step {frame.step}" for frame in frames]]
    for label, leaf in labels.items():
        shown += [label, *[float(f"{f.arrays[f'gradients/{leaf}/weight']:.2g}") for f in frames]]
    return shown


def parts(run, rows, outside=0, whole=(), tied=None):
    """Returns the table of parts: parameters, bytes, outputs and products, and their sums.

    Args:
      rows: the part, its kind, and the shape of what it puts out for one example.
      outside: the operations outside of parts.
      whole: the shape of the output of the network, by default that of its last part.
      tied: the table whose rows are the weights of the output layer.
    """
    heads = ["part", "kind", "output", "parameters", "memory", "activations", "operations"]
    shown, sums = heads, np.zeros(4, int)
    for name, kind, *shape in rows:
        mine = {n: x for n, x in run.params.items() if n.rpartition("/")[0] == name}
        count, size = sum(x.size for x in mine.values()), int(np.prod(shape))
        inputs = mine[f"{name}/weight"].shape[0] if kind == "linear" and mine else 0
        inputs = run.params[tied].shape[1] if name == "output" and tied else inputs
        row = [count, sum(x.nbytes for x in mine.values()), 4 * size, 2 * inputs * size]
        shown, sums = [*shown, name, kind, *shape, *row], sums + row
    sums = (sums + [0, 0, 0, outside]).tolist()
    assert sums[0] == sum(x.size for x in run.params.values())
    assert sums[1] == sum(x.nbytes for x in run.params.values())
    return [*shown, "all of it", "", *(whole or shape), *sums]


def took(run, operations):
    """Returns the table of times and memory, with the operations of a training step."""
    speed = run.speed
    rate, memory = speed["steps_per_second"], speed["memory_bytes"]
    rounded = pytest.approx(operations * rate, abs=0.051 * operations)  # the rate has one decimal
    assert speed["flops_per_second"] == rounded
    return [
        *("what", "how much", "time in all", "a time"),
        *(speed["first_steps"], speed["compilations"], "a time", run.last, "a time"),
        *("training steps in a second, without compiling", rate),
        *("floating-point operations of a training step", operations),
        *("floating-point operations in a second", float(speed["flops_per_second"])),
        *("memory of the process, at most", memory, "size of its directory", run.size),
    ]


def products(sizes, batch):
    """Returns the operations of a training step of dense layers: the outputs and two gradients.

    The first layer needs no gradient of its inputs.
    """
    layers = [a * b for a, b in zip(sizes, sizes[1:])]
    return 2 * batch * (3 * sum(layers) - layers[0])


def judged(chance, label):
    """Returns the numbers on the card of an example: what it is, if it is not that, how sure."""
    guess, sure = int(chance.argmax()), float(chance.max())
    return [guess, *([int(label)] if guess != label else []), min(sure, 0.99)]


def confused(counts, state=()):
    shown = [int(np.trace(counts)), int(counts.sum()), *state]
    wrong = counts - np.diag(np.diag(counts))
    for place in np.argsort(wrong, axis=None)[::-1][:3]:
        i, j = (int(each) for each in np.unravel_index(place, counts.shape))
        shown += [i, j, int(counts[i, j])] if counts[i, j] > 1 and i != j else []
    shown += ["true ↓ predicted →", *map(str, range(10)), "right"]
    for label, row in enumerate(counts):
        cells = [int(count) or "" for count in row]
        shown += [str(label), *cells, float(row[label] / row.sum())]
    return shown


def extremes(chances, labels):
    """Returns the numbers on the examples with the highest loss, the least margin and loss."""
    ordered, truth = np.sort(chances, -1), chances[np.arange(len(labels)), labels]
    orders = truth, ordered[:, -1] - ordered[:, -2], -truth
    shown, before = [], set()
    for place, order in enumerate(orders):
        first = [int(i) for i in np.argsort(order, kind="stable")[:8]]
        for i in (i for i in first if i not in before):
            if place or chances[i].argmax() != labels[i]:  # only mistakes are the worst
                before.add(i)
                shown += judged(chances[i], labels[i])
    return shown


def moments(run, best=None):
    """Returns the block of data of the slider, after its steps and passes were compared."""
    block = next(e["text"] for e in run.page.all("script") if e.get("id") == "recorded")
    shown, steps = json.loads(block), [frame.step for frame in run.seen.frames]
    assert shown["steps"] == steps
    passes = run.rows[-1]["epoch"] / run.last
    np.testing.assert_allclose(shown["epochs"], np.array(steps) * passes, atol=0.0051)
    at = steps.index(best or run.last)
    for e in run.page.all("span"):
        if e.get("style", "").startswith("left:"):  # a tick is where its step is
            left = float(e["style"].removeprefix("left:").removesuffix("%"))
            assert int(e["text"].replace(",", "")) == steps[round(left / 100 * (len(steps) - 1))]
    return shown, at, steps[at] * passes


def watched(run, values, others, best, ends):
    """Returns the numbers in the panel of the slider, which shows two metrics."""
    shown, at, passes = moments(run, best)
    np.testing.assert_allclose(shown["values"], values, rtol=1e-6)
    same("figures", shown["figures"], values)
    same("seconds", shown["seconds"], others)
    planned = 400 if best else run.last
    count = run.seen.about["probe"]["count"]
    state = [best, run.last] if best else []
    return [best or run.last, planned, passes, values[at], count, others[at], *state, *ends]


def measured(chances, labels):
    return {
        "loss": measures.log_loss(labels, chances, labels=range(chances.shape[-1])),
        "accuracy": measures.accuracy_score(labels, chances.argmax(-1)),
    }


def errors(said, truth):
    return {
        "loss": measures.mean_squared_error(truth, said),
        "mae": measures.mean_absolute_error(truth, said),
        "r2": measures.r2_score(truth, said),
    }


def reported(row, values, part="test"):
    for name, value in values.items():
        assert row[f"{part}/{name}"] == pytest.approx(value, rel=1e-5), name


def directory(folder, name):
    return jaxnn.Directory(folder.mktemp("accounts") / name, name, report=True)
