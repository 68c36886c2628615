"""Plans by the compilers of hardware that is not there, and the memory that a CPU really takes."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.forked import result_of
from tests.planning import on_hardware

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

needs_tpu = pytest.mark.skipif(find_spec("libtpu") is None, reason="libtpu is not installed")
needs_gpu = pytest.mark.skipif(
    find_spec("jax_cuda12_plugin") is None, reason="jax-cuda12-plugin is not installed"
)


@pytest.fixture
def planned(tmp_path):
    """Returns a plan for some hardware, by a process of its own, since libtpu may abort it."""
    return lambda name, batch_size=32: result_of(
        on_hardware.planned, tmp_path, name, batch_size, fast=False
    )


@pytest.mark.parametrize(
    "name, devices",
    [
        pytest.param("v5e-1", 1, marks=needs_tpu),
        pytest.param("v5e:4x4", 16, marks=needs_tpu),
        pytest.param("a100x8", 8, marks=needs_gpu),
        pytest.param("h100x1", 1, marks=needs_gpu),
    ],
)
def test_a_plan_for_hardware_that_is_not_there(name, devices, planned):
    plan = planned(name)
    assert plan["devices"] == devices and plan["fits"] and plan["moved"] > 0
    assert plan["memory"]["peak"] >= plan["memory"]["arguments"] > 0
    messages = {each["kind"] for each in plan["messages"]}
    assert ("all-gather" in messages) == (devices > 1)
    assert ("links" in plan["times"]) == (devices > 1)
    assert any("body/blocks" in each["name"] for each in plan["buffers"])


@needs_tpu
def test_a_program_that_does_not_fit_says_by_how_much(planned):
    plan = planned("v5e-1", 8192)
    assert not plan["fits"] and plan["memory"]["peak"] > plan["usable"] and plan["moved"] is None


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="it reads /proc")
def test_the_memory_of_a_plan_is_what_a_process_takes():
    """Steps of an MLP of 1,024 nodes on 60,000 rows: 1.3 GB, beside which the rest is small."""
    command = [sys.executable, "-m", "tests.planning.memory_in_use"]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    used = json.loads(done.stdout.splitlines()[-1])
    assert used["peak"] - used["before"] == pytest.approx(used["planned"], rel=0.1)


@needs_gpu
@pytest.mark.parametrize("first", ["import jax", "import jax; jax.devices()"])
def test_gpus_are_compiled_for_where_cuda_is_not_installed(first):
    """As by a newcomer, who restricts no platforms: jax then skips a plug-in without CUDA."""
    program = f"""{first}
from jaxnn.planning import compilers, hardware
print(len(compilers.devices_of(hardware.hardware("a100x8"))), jax.default_backend())"""
    variables = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=variables, capture_output=True, text=True
    )
    assert done.stdout.split() == ["8", "cpu"], done.stderr
    assert first != "import jax" or "Traceback" not in done.stderr
