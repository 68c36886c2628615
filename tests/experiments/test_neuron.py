"""The first experiment tells the truth: what it prints is what the networks compute."""

import re
from itertools import product

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from experiments import neuron

PICTURES = ("neuron.png", "network.png")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    out = tmp_path_factory.mktemp("neuron") / "run"
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", lambda text: printed.append(text))
        run = neuron.main(neuron.Config(), jaxnn.Directory(out))
    return run, "\n".join(printed)


@pytest.mark.slow
def test_a_hidden_layer_learns_xor(story):
    run, _ = story
    assert run.result["train/accuracy"] == 1.0
    assert ((run.predict(neuron.ROWS)[:, 0] > 0) == neuron.TRUTH["XOR"]).all()
    assert (run.out / "result.json").exists()


def test_one_neuron_learns_and_and_or_but_not_xor(story):
    _, printed = story
    rows = re.findall(r"(\w+) by .*: (\d) of 4 rows right, loss ([0-9.]+) nats", printed)
    (_, right_and, _), (_, right_or, _), (_, right_xor, loss_xor), (_, right_hidden, _) = rows
    assert [name for name, _, _ in rows] == ["AND", "OR", "XOR", "XOR"]
    assert (right_and, right_or, right_hidden) == ("4", "4", "4")
    assert int(right_xor) <= 3 and float(loss_xor) == pytest.approx(np.log(2), abs=2e-3)


def test_the_last_table_is_what_the_network_computes(story):
    run, printed = story
    table, pictures = printed.split("\n\nPictures: ")
    assert all((run.out / name).exists() and name in pictures for name in PICTURES)
    rows = [list(map(float, line.split())) for line in table.splitlines()[-4:]]
    raw = run.predict(neuron.ROWS)[:, 0]
    for row, inputs, output, truth in zip(rows, neuron.ROWS, raw, neuron.TRUTH["XOR"], strict=True):
        x1, x2, *terms, total, bias, shown, sigmoid, predicted, known = row
        assert [x1, x2] == inputs.tolist()
        assert sum(terms) == pytest.approx(total, abs=0.05)
        assert total + bias == pytest.approx(shown, abs=0.02)
        assert shown == pytest.approx(output, abs=0.02)
        assert sigmoid == pytest.approx(1 / (1 + np.exp(-output)), abs=1e-3)
        assert predicted == (output > 0) and known == truth


def test_every_line_through_the_square_has_a_name_and_xor_has_none():
    grid = np.linspace(-2, 2, 9)
    lines = product(grid, grid, grid + 0.01)
    seen = {
        "".join("01"[int(w1 * x + w2 * y + b > 0)] for x, y in neuron.ROWS) for w1, w2, b in lines
    }
    assert seen == set(neuron.DETECTS)
    assert not {"0110", "1001"} & seen


@pytest.mark.nightly
def test_xor_is_solved_from_every_seed():
    network = jaxnn.mlp([neuron.Config().hidden], 1, activation=jnp.tanh)
    runs = [neuron.learn(neuron.Config(seed=seed), network, "XOR") for seed in range(20)]
    assert all(run.result["train/accuracy"] == 1.0 for run in runs)
