"""The TPU's own compiler, which needs no TPU, compiles what is trained and says what it needs."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import experiments
from tests.scale.on_tpu import ENVIRONMENT

pytest.importorskip("libtpu")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# `images` begins with a download.
TRAINED = [each.name for each in experiments() if each.name != "images"]
VARIANTS = dict.fromkeys(("mnist_convnet", "mnist_convnet_v6e", "mnist_resnet"), "mnist")
VARIANTS["char_gpt_gpu"] = "char_gpt"
NIGHTLY = {"char_gpt_gpu", "lora_finetune"}  # a minute each


def figures(case):
    """Compiles a case in a process of its own, since libtpu may abort it; returns its figures."""
    command = [sys.executable, "-m", "tests.scale.on_tpu", case]
    environment = {**os.environ, **ENVIRONMENT}
    environment.pop("XLA_FLAGS", None)
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_max_pool_moves_few_bytes():
    """Shifted slices, which suit a CPU, move 196 MB and take 42 MB beside their arguments."""
    (pooling,) = figures("max_pool")
    assert pooling["moved"] < 50e6 and pooling["temporary"] < 10e6


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.nightly if name in NIGHTLY else ())
        for name in [*TRAINED, *VARIANTS]
    ],
)
def test_an_experiment_fits_on_one_chip(name):
    source = (ROOT / "experiments" / f"{VARIANTS.get(name, name)}.py").read_text()
    reads = any(f"datasets.{each}(" in source for each in ("mnist", "tiny_shakespeare"))
    if reads and not os.environ.get("JAXNN_DATA"):
        pytest.skip("The data are not here: set JAXNN_DATA to a folder that holds them")
    for package in re.findall(r'carried\("(\w+)"', source):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"The weights that it trains on are in the package {package}")
    programs = figures(name)
    assert programs
    assert all(each["arguments"] + each["temporary"] < 4e9 for each in programs)


V5E = 15.75 * 2**30  # the bytes of a chip; v6e has twice as many


@pytest.mark.parametrize("name", ["gpt2", "gpt2_tensor", "gpt2_two_slices", "gpt2_v6e", "gpt2_xl"])
def test_a_large_gpt_fits_on_many_chips(name):
    """Sharded fully, each chip holds its share of the state, and a few blocks at a time."""
    (program,) = figures(name)
    data = 2 * 2**20
    assert program["arguments"] - data < 1.05 * program["state"] / program["devices"]
    assert program["arguments"] + program["temporary"] < V5E / 2
