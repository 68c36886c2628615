"""Every number on the pages of trained networks: shown, expected and recomputed, none left out.

Each page is of a run of a few seconds. What the networks give is computed by NumPy from their saved
parameters, and the metrics of it by scikit-learn; the rest are the reports and arrays of the run.
Left out are times, versions, commands, and what is in pictures (see `tests/accounts.py`).
"""

import json

import jax
import numpy as np
import optax
import pytest
from sklearn import datasets
from sklearn import metrics as measures

import jaxnn
from tests.accounts import Account
from tests.shown import (
    confused,
    directory,
    errors,
    extremes,
    gradients,
    judged,
    measured,
    name_of,
    parts,
    perceptron,
    products,
    read,
    reported,
    results,
    softmax,
    took,
    watched,
)

pytestmark = pytest.mark.slow

IMAGES, TARGETS = datasets.load_digits(return_X_y=True)
LAYERS = {"hidden 1": "hidden_1", "output": "output"}
UNSEEN = ("again",)  # versions and commands; the page of a sweep says its seeds there


def digits():
    """Returns a few hundred images of digits."""
    inputs = (IMAGES[:600] / 16).reshape(-1, 8, 8).astype(np.float32)
    return jaxnn.split({"inputs": inputs, "labels": TARGETS[:600].astype(np.int32)}, 0.3)


LEARNER = jaxnn.learner(
    jaxnn.mlp([16], 10), jaxnn.classification(), lambda h: optax.adam(h["learning_rate"])
)


def classified(out, **options):
    train, test = digits()
    return jaxnn.fit(
        LEARNER, jaxnn.resident(train, batch_size=60), every=10, quiet=True, out=out,
        evaluate=jaxnn.resident(test, batch_size=60),
        **{"key": jax.random.key(0), "hparams": {"learning_rate": 0.01}, "steps": 40, **options},
    )  # fmt: skip


MLP = [
    ("flatten", "flatten", 64),
    ("hidden_1", "linear", 16),
    ("activation_1", "activation", 16),
    ("output", "linear", 10),
]


@pytest.fixture(scope="module")
def sorted_digits(tmp_path_factory):
    run = classified(directory(tmp_path_factory, "digits"))
    return read(run.out, *digits())


def test_digits(sorted_digits):
    run, labels = sorted_digits, sorted_digits.test["labels"]
    chances = softmax(run.outputs(run.test["inputs"]))
    counts = measures.confusion_matrix(labels, chances.argmax(-1))
    values, last = measured(chances, labels), run.rows[-1]
    reported(last, values)
    largest = np.bincount(labels).max() / len(labels)
    of = Account(run.page)
    of.section("header", [40, values["accuracy"], 180, 40, largest])
    of.section("learning", [*slider(run, values), *predicted(run, chances)])
    of.section("advice", [last["train/loss"], values["loss"], 0.2])
    of.section("confusion", confused(counts))
    of.section("examples", extremes(chances, labels))
    of.section("numbers", results(run))
    of.section("gradients", gradients(run, LAYERS))
    of.section("network", parts(run, MLP))
    of.section("hyperparameters", ["name", "value", "learning rate", 0.01])
    of.section("speed", took(run, products([64, 16, 10], 60)))
    of.closed(*UNSEEN)


def slider(run, values, best=None):
    """Returns the numbers at the slider of digits, whose metrics were recorded at each step."""
    frames = [frame.arrays for frame in run.seen.frames]
    shares, losses = ([float(f[f"metrics/{n}"]) for f in frames] for n in ("accuracy", "loss"))
    at = [frame.step for frame in run.seen.frames].index(best or run.last)
    assert (shares[at], losses[at]) == pytest.approx((values["accuracy"], values["loss"]), 1e-5)
    return watched(run, shares, losses, best, [0.0, 1.0])


def predicted(run, chances):
    """Returns the numbers on the 12 examples that are shown at each moment."""
    index = run.seen.probe["index"][:12]
    cards = [judged(chances[i], run.test["labels"][i]) for i in index]
    return [16, 12, *[number for card in cards for number in card]]


def test_gradients_are_those_of_the_last_state(sorted_digits):
    run, train = sorted_digits, sorted_digits.train
    index = np.arange(60) * len(train["labels"]) // 60
    inputs, labels = train["inputs"][index].reshape(60, 64).astype(float), train["labels"][index]
    hidden = np.maximum(inputs @ run.params["hidden_1/weight"] + run.params["hidden_1/bias"], 0)
    back = (softmax(run.outputs(inputs)) - np.eye(10)[labels]) / len(labels)
    before = back @ run.params["output/weight"].T * (hidden > 0)
    seen = run.seen.frames[-1].arrays
    for name, gradient in {"output": hidden.T @ back, "hidden_1": inputs.T @ before}.items():
        size = np.sqrt(np.mean(gradient**2))
        assert seen[f"gradients/{name}/weight"] == pytest.approx(size, rel=1e-4)


def test_a_run_that_stopped_early(tmp_path_factory):
    asked = {"hparams": {"learning_rate": 0.05}, "steps": 400}
    run = classified(
        directory(tmp_path_factory, "early"), **asked, watch=jaxnn.Watch("test/loss", patience=2)
    )
    run = read(run.out, *digits())
    labels, best = run.test["labels"], min(run.rows, key=lambda row: row["test/loss"])
    assert run.last == best["step"] + 20 < 400
    chances = softmax(run.outputs(run.test["inputs"]))  # of the best state, as loaded
    values, last = measured(chances, labels), run.rows[-1]
    reported(best, values)
    counts = measures.confusion_matrix(labels, chances.argmax(-1))
    largest, at = np.bincount(labels).max() / len(labels), best["step"]
    ended = [values["accuracy"], 180, at, run.last, 400, run.last, last["test/accuracy"], largest]
    of = Account(run.page)
    of.section("header", [run.last, *ended])
    of.section("learning", [*slider(run, values, at), *predicted(run, chances)])
    of.section("advice", stopped(run))
    of.section("confusion", confused(counts, [at]))
    of.section("examples", extremes(chances, labels))
    of.section("numbers", results(run, best))
    of.section("gradients", gradients(run, LAYERS))
    of.section("network", parts(run, MLP))
    of.section("hyperparameters", ["name", "value", "learning rate", 0.05])
    of.section("speed", took(run, products([64, 16, 10], 60)))
    of.closed(*UNSEEN)


def stopped(run):
    """Returns the numbers of the advice: when it ended, and the share of nodes that give 0."""
    dead = float(run.seen.frames[-1].arrays["quiet/activation_1"])
    return [run.last, *([dead, 1, 0] if dead >= 0.1 else [])]


@pytest.fixture(scope="module")
def regressed(tmp_path_factory):
    inputs, labels = datasets.load_diabetes(return_X_y=True)
    data = {"inputs": (inputs * 20).astype(np.float32), "labels": labels[:, None]}
    data["labels"] = data["labels"].astype(np.float32)
    train, test = jaxnn.split(data, 0.3)
    learner = jaxnn.learner(jaxnn.mlp([8], 1), jaxnn.regression(), optax.adam(0.3))
    run = jaxnn.fit(
        learner, jaxnn.resident(train, batch_size=31), steps=40, every=10, quiet=True,
        key=jax.random.key(0), evaluate=jaxnn.resident(test, batch_size=30),
        out=directory(tmp_path_factory, "regression"),
    )  # fmt: skip
    return read(run.out, train, test)


def real_slider(run, values, rel=1e-4):
    frames = [frame.arrays for frame in run.seen.frames]
    off, shares = ([float(f[f"metrics/{n}"]) for f in frames] for n in ("mae", "r2"))
    assert (off[-1], shares[-1]) == pytest.approx((values["mae"], values["r2"]), rel)
    low = 0.0 if min(off) < max(off) / 2 else min(off)
    return watched(run, off, shares, None, [low, max(off)])


def test_a_regression(regressed):
    run, truth = regressed, regressed.test["labels"][:, 0].astype(float)
    said = run.outputs(run.test["inputs"])[:, 0]
    values, last = errors(said, truth), run.rows[-1]
    reported(last, values)
    cards = []
    for i in run.seen.probe["index"][:12]:
        seen = [float(each) for each in run.test["inputs"][i, :6]]
        cards += [*seen, 10, float(said[i]), float(truth[i])]
    of = Account(run.page)
    of.section("header", [40, values["r2"], values["mae"], 40])
    of.section("learning", [*real_slider(run, values), 12, *cards])
    of.section("advice", [last["train/loss"], values["loss"], 0.2])
    of.section("fit", [len(truth)])
    of.section("numbers", results(run))
    of.section("gradients", gradients(run, LAYERS))
    sizes = zip(("flatten", "hidden_1", "activation_1", "output"), (10, 8, 8, 1))
    of.section("network", parts(run, [(n, k[1], s) for (n, s), k in zip(sizes, MLP)]))
    of.section("hyperparameters", ["name", "value", "steps", 40, "batch size", 31])
    of.section("speed", took(run, products([10, 8, 1], 31)))
    of.closed(*UNSEEN)


def table():
    draws = np.random.default_rng(0)
    x, kind = draws.normal(size=200), draws.choice(["a", "b", "c"], 200)
    return jaxnn.split_table(
        {"x": x, "kind": kind, "price": 3000 + 500 * x + draws.normal(size=200)}, 0.4
    )


def test_a_table(tmp_path_factory):
    train, test = table()
    columns = jaxnn.fit_columns(train, labels="price")
    learner = jaxnn.learner(columns.network([8]), columns.objective(), optax.adam(0.05))
    run = jaxnn.fit(
        learner, jaxnn.resident(columns.encode(train), batch_size=40), steps=60, every=6,
        key=jax.random.key(0), quiet=True, out=directory(tmp_path_factory, "table"),
        evaluate=jaxnn.resident(columns.encode(test), batch_size=40),
    )  # fmt: skip
    run = read(run.out)
    (x, kinds, price), (tx, _, tprice) = (
        [np.asarray(rows[name]) for name in ("x", "kind", "price")] for rows in (test, train)
    )
    encoded = np.concatenate(
        [(x[:, None] - tx.mean()) / tx.std(),
         run.params["columns/categories/embedding/weight"][np.searchsorted(list("abc"), kinds)]],
        axis=-1,
    )  # fmt: skip
    inner = {name.removeprefix("layers/"): array for name, array in run.params.items()}
    said = perceptron(inner, encoded)[:, 0] * tprice.std() + tprice.mean()
    values = errors(said, price)
    values["loss"] /= tprice.var()  # of standardized labels
    reported(run.rows[-1], values)

    def cards(index):
        return [v for i in index for v in (float(x[i]), float(said[i]), float(price[i]))]

    worst, best = (np.argsort(sign * np.abs(said - price), kind="stable")[:8] for sign in (-1, 1))
    of = Account(run.page)
    of.section("header", [60, values["r2"], values["mae"], 60])
    shown = run.seen.probe["index"][:12]
    of.section("learning", [*real_slider(run, values, rel=1e-3), 12, *cards(shown)])
    dead = float(run.seen.frames[-1].arrays["quiet/layers/activation_1"])
    calm = [run.rows[-1]["train/loss"], values["loss"], 0.2]
    of.section("advice", [dead, 1, 0] if dead >= 0.1 else calm)
    of.section("fit", [len(price)])
    of.section("examples", cards([*worst, *best]))
    of.section("numbers", results(run))
    of.section("columns", [
        len(tx), "column", "kind", "encoding", "missing", "classes",
        "x", "number", tx.mean(), tx.std(), 0, "",
        "kind", "category", 4, 0, 3,
        "price", "labels", tprice.mean(), tprice.std(), 0, "",
    ])  # fmt: skip
    leaves = ("columns/categories/embedding", "layers/hidden_1", "layers/output")
    of.section("gradients", gradients(run, {name.replace("_", " "): name for name in leaves}))
    rows = [
        ("columns/numbers", "numbers", 1),
        ("columns/categories/rows", "rows", 1),
        ("columns/categories/embedding", "embedding", 1, 8),
        ("columns/categories/flatten", "flatten", 8),
        ("layers/flatten", "flatten", 9),
        ("layers/hidden_1", "linear", 8),
        ("layers/activation_1", "activation", 8),
        ("layers/output", "linear", 1),
    ]
    boxes = [2, 1, 1, 4, 8, 9, 1, 8, 8, 1, 1]  # branches, rows, widths and the name of a layer
    of.section("network", [*boxes, *parts(run, rows)])
    of.section("hyperparameters", ["name", "value", "steps", 60, "batch size", 40])
    # The embedding needs the gradient of the inputs of the first layer, too.
    of.section("speed", took(run, products([9, 8, 1], 40) + 2 * 40 * 9 * 8))
    of.closed(*UNSEEN)


RATES, SEEDS = [0.003, 0.03, 0.3], 2


def test_a_sweep(tmp_path_factory):
    asked = directory(tmp_path_factory, "sweep")
    watch = jaxnn.Watch("test/loss", patience=3)
    run = jaxnn.fit_sweep(
        jaxnn.sweep({"learning_rate": RATES}, seeds=SEEDS),
        lambda values, runs, out: classified(
            out, key=runs.key, hparams=runs.hparams, steps=100, watch=watch
        ),
        out=asked, metric="test/loss", quiet=True,
    )  # fmt: skip
    run = read(run.out, *digits(), part="population")
    labels, many = run.test["labels"], range(len(RATES) * SEEDS)
    losses = np.array([row["test/loss"] for row in run.rows])
    at = losses.argmin(0)  # each network is shown in its own best state
    state = [{n: run.rows[at[i]][n][i] for n in run.rows[0] if "/" in n} for i in many]
    outputs = [
        perceptron({name: array[i] for name, array in run.params.items()}, run.test["inputs"])
        for i in many
    ]
    for i in many:
        reported(state[i], measured(softmax(outputs[i]), labels))
    by = losses.min(0).reshape(len(RATES), SEEDS)
    ranked = np.argsort(by.mean(1))
    first = int(ranked[0])
    winner = first * SEEDS + int(by[first].argmin())
    share = np.mean([state[first * SEEDS + k]["test/accuracy"] for k in range(SEEDS)])
    order = [int(i) for i in np.argsort(by.ravel())]
    chances = softmax(outputs[winner])
    largest = np.bincount(labels).max() / len(labels)
    of = Account(run.page)
    steps = max(each["step"] for each in run.rows)
    of.section("header", [6, steps, 3, RATES[first], float(share), SEEDS, largest])
    edge = {0: [RATES[0], 3], 2: [RATES[2], 3]}.get(first, [])
    of.section("advice", edge)
    best = [RATES[first], by[first].mean(), SEEDS]
    of.section("winner", [*best, by.min(), RATES[order[0] // SEEDS], order[0] % SEEDS])
    counts = measures.confusion_matrix(labels, chances.argmax(-1))
    of.section("confusion", confused(counts))
    of.section("examples", extremes(chances, labels))
    shown = ["place", "learning rate", "mean loss", "deviation", "best network", "networks"]
    for place, i in enumerate(ranked, 1):
        shown += [place, RATES[i], by[i].mean(), by[i].std(ddof=1), by[i].min(), SEEDS]
    of.section("ranking", shown)
    hidden = "test/loss", "train/learning_rate"  # the first, and a hyper-parameter of its own
    names = ["test/loss", *(name for name in run.rows[0] if "/" in name and name not in hidden)]
    shown = [6, "place", "learning rate", "seed", "status", *map(name_of, names)]
    status = json.loads((run.out / "population" / "result.json").read_text())["status"]
    for place, i in enumerate(order, 1):
        shown += [place, RATES[i // SEEDS], i % SEEDS, status[i], *(state[i][n] for n in names)]
    of.section("runs", shown)
    tried = [min(RATES), max(RATES), 3]
    of.section("hyperparameters", ["name", "value", "learning rate", *tried, "seed", 0, 1])
    size = ["time in all", "a time", "size of its directory", run.size]
    of.section("speed", ["what", "how much", *size])
    assert "Its seeds are 0, 1." in run.page.text("again")
    of.closed(*UNSEEN)
