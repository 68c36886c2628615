"""Compiles programs for TPUs and GPUs that are not here, by their compilers. Nothing runs.

Figures of a program are the bytes of a device that its arguments and its temporary arrays take, the
bytes that it moves, and the seconds that compiling took. What does not fit into the memory of the
chip is an error of the compiler.
"""

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

import jaxnn
from experiments import planned
from jaxnn.driver.chunks import Training
from jaxnn.loop._run import best_form
from jaxnn.planning._plan import lower, placed
from jaxnn.planning.compilers import devices_of
from jaxnn.planning.hardware import hardware
from jaxnn.scale import _shard
from jaxnn.scale.memory import temporary_bytes

# Set before libtpu is loaded.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several processes may compile
}


def chip(name: str = "v5e") -> Any:
    """Returns a device of a TPU with one chip."""
    one = {"chips_per_host_bounds": (1, 1, 1)}
    return topologies.get_topology_desc(f"{name}:1x1", platform="tpu", **one).devices[0]


def compiled(lowered: Any, platform: str = "tpu") -> dict[str, Any]:
    """Compiles a lowered program, and returns its figures."""
    began = time.perf_counter()
    program = lowered.compile()
    memory, cost = program.memory_analysis(), program.cost_analysis()
    return {
        "arguments": memory.argument_size_in_bytes,
        "temporary": temporary_bytes(memory, platform),
        "moved": round(cost["bytes accessed"]) if cost else 0,  # unknown for a GPU
        "seconds": round(time.perf_counter() - began, 1),
    }


def loop_of(training: Training, device: Any) -> Any:
    """Lowers the program that trains, all members side by side, for a device or its mesh."""
    assert best_form(training.program, device.platform) == "looped"
    return lower(training, device)[0]


# --- Experiments -------------------------------------------------------------------------------


def experiment(name: str, on: str = "v5e", **changes: Any) -> Iterator[dict[str, Any]]:
    """Compiles what an experiment trains, up to where it reads a result, for one chip."""
    module = import_module(f"experiments.{name}")
    for learner, data, options in planned.fits(module.main, replace(module.Config(), **changes)):
        training = jaxnn.train(learner, data, steps=1000, every=1000, **options)
        yield compiled(loop_of(training, chip(on)))


# --- Models on many chips ------------------------------------------------------------------------


def gpt2(
    topology: str,
    mesh: tuple[int, int],
    rules: Any,
    *,
    slices: int = 1,
    batch_size: int = 64,
    parts: int = 1,
    free: bool = False,
    **settings: Any,
) -> Iterator[dict[str, Any]]:
    """Compiles a GPT-2 in bfloat16, which computes its blocks again for their gradients.

    If `free`, only the state and the batch are constrained, and XLA places everything else.
    """
    if free:
        _shard.inside = lambda frame: nullcontext()
    devices = devices_of(hardware(topology))
    if slices > 1:
        devices = topologies.get_topology_desc(topology, "tpu", num_slices=slices).devices
    network = jaxnn.mixed_precision(jaxnn.gpt(50304, stacked=True, remat="nothing", **settings))
    learner = jaxnn.learner(network, jaxnn.next_token(), optax.adamw(3e-4), output_parts=parts)
    learner = jaxnn.scale.shard(learner, jaxnn.scale.mesh(*mesh, devices=devices), rules)
    tokens = jaxnn.windows(np.zeros(2**20, np.uint16), 1025, batch_size=batch_size)
    training = jaxnn.train(learner, tokens, steps=1000, every=1000, key=jax.random.key(0))
    lowered = loop_of(training, devices[0])
    state = jax.tree.leaves(lowered.in_avals[0][0])
    size = sum(math.prod(leaf.shape) * getattr(leaf.dtype, "itemsize", 4) for leaf in state)
    yield compiled(lowered, devices[0].platform) | {"state": size, "devices": len(devices)}


# --- Parts -------------------------------------------------------------------------------------


def max_pool() -> Iterator[dict[str, Any]]:
    """Compiles the gradient of pooling in the first block of a convolutional network."""
    images = jax.ShapeDtypeStruct((128, 28, 28, 32), jnp.float32)
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(jaxnn.max_pool(2).apply({}, {}, x)[0])))
    images = placed(images, SingleDeviceSharding(chip()))
    yield compiled(jax.jit(gradient).lower(images))


XL = {"layers": 48, "heads": 25, "features": 1600}

CASES = {
    "gpt2": partial(gpt2, "v5e:2x4", (8, 1), jaxnn.scale.fsdp),
    "gpt2_free": partial(gpt2, "v5e:2x4", (8, 1), jaxnn.scale.fsdp, free=True),
    "gpt2_parts": partial(gpt2, "v5e:2x4", (8, 1), jaxnn.scale.fsdp, parts=4),
    "gpt2_filling": partial(
        gpt2, "v5e:2x4", (8, 1), jaxnn.scale.fsdp, parts=4, layers=48, batch_size=768
    ),
    "gpt2_tensor": partial(gpt2, "v5e:2x4", (4, 2), jaxnn.scale.tensor_fsdp),
    "gpt2_two_slices": partial(gpt2, "v5e:2x4", (16, 1), jaxnn.scale.fsdp, slices=2),
    "gpt2_a100": partial(gpt2, "a100-40x8", (8, 1), jaxnn.scale.fsdp),
    "gpt2_xl": partial(gpt2, "v5e:4x4", (16, 1), jaxnn.scale.fsdp, **XL),
    "gpt2_v6e": partial(gpt2, "v6e:2x4", (8, 1), jaxnn.scale.fsdp),
    "max_pool": max_pool,
    "mnist_convnet_v6e": partial(experiment, "mnist", "v6e", model="convnet"),
    "mnist_convnet": partial(experiment, "mnist", model="convnet"),
    "mnist_resnet": partial(experiment, "mnist", model="resnet"),
    "char_gpt_gpu": partial(experiment, "char_gpt", preset="gpu"),
}


def figures(
    case: str, changes: Mapping[str, Any] = {}, effort: float = -1.0
) -> list[dict[str, Any]]:
    """Compiles a case, or an experiment with changes; returns the figures of each program.

    With the least effort, the compiler takes seconds, and programs take somewhat less memory.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_exec_time_optimization_effort", effort)
    return list(CASES[case]() if case in CASES else experiment(case, **changes))


if __name__ == "__main__":  # python -m tests.scale.on_tpu CASE
    os.environ.update(ENVIRONMENT)
    for program in figures(sys.argv[1]):
        print(*(f"{name} {value:,}" for name, value in program.items()), sep="\n")
