"""Hardware by name: what is known, what is not, and what is missing to compile for it."""

import pytest

import jaxnn
from jaxnn.planning import compilers
from jaxnn.planning.hardware import CHIPS, KNOWN, hardware


@pytest.mark.parametrize(
    "name, platform, devices",
    [
        ("v5e-1", "tpu", 1),
        ("v6e-1", "tpu", 1),
        ("v5e:4x4", "tpu", 16),
        ("v5e-8", "tpu", 8),
        ("v5p-8", "tpu", 8),
        ("a100x8", "cuda", 8),
        ("a100-40x2", "cuda", 2),
        ("h100x8", "cuda", 8),
        ("h100", "cuda", 1),
        ("cpu", "cpu", 1),
    ],
)
def test_a_name_says_platform_and_devices(name, platform, devices):
    target = hardware(name)
    assert (target.platform, target.devices) == (platform, devices)


def test_all_known_names_are_read_and_all_chips_have_a_source():
    assert all(hardware(name).devices for name in KNOWN)
    assert all(chip.source and chip.usable <= chip.memory for chip in CHIPS.values())
    gpus = {name for name, chip in CHIPS.items() if chip.platform == "cuda"}
    assert all("cuda_compute_capability" in compilers.target_config(name) for name in gpus)


@pytest.mark.parametrize(
    "name, words",
    [
        ("v7", "hardware is unknown.*one of .*v5e-1.*v6e-1"),
        ("a100x", "Did you mean 'a100x8'"),
        ("v5e-3", "no v5e with this number of chips.*v5e-1, v5e-4.*Pass hardware='v5e-4'"),
        ("a100-3", "the number of GPUs has the wrong form.*Pass hardware='a100x3'"),
        ("h100x0", "the number of GPUs has the wrong form"),
    ],
)
def test_unknown_hardware_is_an_error_that_lists_what_is_known(name, words):
    with pytest.raises(jaxnn.InvalidValue, match=words):
        hardware(name)


def test_a_name_is_a_string():
    with pytest.raises(jaxnn.InvalidType, match="Pass hardware='v5e-1'"):
        hardware(8)


@pytest.mark.parametrize(
    "name, words",
    [
        ("v5e-1", r"Install it: pip install .jax\[tpu\]=="),
        ("a100x8", "pip install --no-deps jax-cuda12-pjrt==.* jax-cuda12-plugin=="),
    ],
)
def test_a_missing_compiler_says_what_to_install(name, words, monkeypatch):
    monkeypatch.setattr(compilers, "find_spec", lambda package: None)
    with pytest.raises(jaxnn.planning.NoCompiler, match=words):
        compilers.devices_of(hardware(name))
