"""The TPU's own compiler, which needs no TPU, compiles what is trained and says what it needs."""

import importlib.util
import os
import re
from pathlib import Path

import pytest

from experiments.__main__ import experiments
from tests.forked import result_of
from tests.pretrained.peers import rated_sentences
from tests.scale import on_tpu

pytest.importorskip("libtpu")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# `images` begins with a download.
TRAINED = [each.name for each in experiments() if each.name != "images"]
VARIANTS = dict.fromkeys(("mnist_convnet", "mnist_convnet_v6e", "mnist_resnet"), "mnist")
VARIANTS["char_gpt_gpu"] = "char_gpt"
# A minute each, or like another in what is compiled.
NIGHTLY = {
    "char_gpt_gpu", "ensemble_mnist", "halving_mnist", "lora_finetune", "mnist_convnet_v6e",
    "pbt_digits", "table",
}  # fmt: skip


@pytest.fixture
def figures(tmp_path):
    """Compiles a case in a process of its own, since libtpu may abort it; returns its figures."""
    return lambda case, effort=-1.0, **changes: result_of(
        on_tpu.figures, tmp_path, case, changes, effort, fast=False, variables=on_tpu.ENVIRONMENT
    )


def test_max_pool_moves_few_bytes(figures):
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
def test_an_experiment_fits_on_one_chip(name, figures, tmp_path):
    source = (ROOT / "experiments" / f"{VARIANTS.get(name, name)}.py").read_text()
    reads = any(f"datasets.{each}(" in source for each in ("mnist", "tiny_shakespeare"))
    if reads and not os.environ.get("JAXNN_DATA"):
        pytest.skip("The data are not here: set JAXNN_DATA to a folder that holds them")
    for package in re.findall(r'carried\("(\w+)"', source):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"The weights that it trains on are in the package {package}")
    changes = {}
    if name == "finetune_minilm":  # its own sentences are a download
        changes = {"data": str(rated_sentences(tmp_path, 400))}
    programs = figures(name, **changes)
    assert programs
    assert all(each["arguments"] + each["temporary"] < 4e9 for each in programs)


V5E = 15.75 * 2**30  # the bytes of a chip; v6e has twice as many
# Of these, 0.82e9 are the logits in bfloat16: neither they nor their gradients are stored twice.
GPT2 = 1.2e9


@pytest.mark.parametrize(
    "name",
    [
        "gpt2",
        "gpt2_tensor",
        "gpt2_two_slices",
        pytest.param("gpt2_v6e", marks=pytest.mark.nightly),
        pytest.param("gpt2_xl", marks=pytest.mark.nightly),
    ],
)
def test_a_large_gpt_fits_on_many_chips(name, figures):
    """Sharded fully, each chip holds its share of the state, and a few blocks at a time."""
    (program,) = figures(name)
    data = 2 * 2**20
    assert program["arguments"] - data < 1.05 * program["state"] / program["devices"]
    assert program["arguments"] + program["temporary"] < V5E / 2
    if name == "gpt2":
        assert program["temporary"] < GPT2


def test_logits_in_parts_are_not_stored_together(figures):
    """Of a quarter of the examples, they are 0.21e9 bytes; the blocks take more."""
    (program,) = figures("gpt2_parts")
    assert program["temporary"] < 0.75 * GPT2


@pytest.mark.nightly
def test_a_sharded_gpt_needs_a_third_of_the_memory_that_xla_would_choose(figures):
    """By the compiler's full effort, with which programs are compiled for use."""
    (ours,), (free,) = (figures(name, effort=0.0) for name in ("gpt2", "gpt2_free"))
    assert ours["temporary"] <= free["temporary"] / 3


@pytest.mark.nightly
def test_a_program_that_the_compiler_accepts_fits(figures):
    """It needs 91 to 95 % of a chip; XLA's `temp_size_in_bytes` would be 131 %."""
    (program,) = figures("gpt2_filling")
    assert 0.85 * V5E < program["arguments"] + program["temporary"] < V5E
