"""Ahead-of-time compilers for devices that are not present.

libtpu (the extra `[tpu]`) compiles TPU programs. XLA's CUDA plug-in, two wheels that need neither a
driver nor the CUDA libraries, compiles GPU programs. Each is loaded on first use.
"""

import os
import time
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import jax
import numpy as np

from jaxnn.checks import Invalid, InvalidValue
from jaxnn.formatting import first_line
from jaxnn.planning.hardware import Hardware
from jaxnn.typing import Any

# Without these, libtpu queries the network for its TPU type, and refuses a second process.
_LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
_CUDA = ("jax_cuda12_plugin", "jax_cuda13_plugin")


class NoCompiler(Invalid, ImportError):
    """The compiler for some hardware is not installed; the message says what to install."""


def devices_of(hardware: Hardware) -> list[Any]:
    """Returns the devices to compile for. Only those of this machine can run programs.

    Raises:
      NoCompiler: if the compiler is not installed.
      InvalidValue: if the compiler does not support the topology.
    """
    if hardware.chip is None:
        return jax.devices("cpu" if hardware.kind == "cpu" else None)[:1]
    check_compiler(hardware)
    from jax.experimental import topologies

    try:
        if hardware.platform == "tpu":
            for name, value in _LIBTPU.items():
                os.environ.setdefault(name, value)
            one = {"chips_per_host_bounds": (1, 1, 1)} if hardware.devices == 1 else {}
            name = f"{hardware.kind}:{hardware.topology}"
            return list(topologies.get_topology_desc(name, platform="tpu", **one).devices)
        shape = f"1x1x{hardware.devices}"
        config = target_config(hardware.kind)
        options = {"target_config": config, "topology": shape}
        try:
            there = topologies.get_topology_desc("", platform="cuda", **options)
        except NotImplementedError:  # jax started before `check_compiler`, and skipped the plug-in
            (plugin,) = filter(find_spec, _CUDA)
            import_module(f"jax_plugins.xla_{plugin[4:10]}").initialize()
            there = topologies.get_topology_desc("", platform="cuda", **options)
        return list(there.devices)
    except (jax.errors.JaxRuntimeError, ValueError, RuntimeError) as error:
        raise InvalidValue(
            "plan",
            "the compiler does not support this hardware",
            got=f"hardware={hardware.name!r}: {first_line(error)}",
            expected="a topology that can be built",
            fix="Pass, say, hardware='v5e:4x4' or 'a100x8'",
        ) from error


def check_compiler(hardware: Hardware) -> None:
    """Raises `NoCompiler` unless the compiler for some hardware is installed.

    Called before jax starts, it also lets jax load XLA's CUDA plug-in on a machine without CUDA.
    """
    version = jax.__version__
    if hardware.platform == "tpu" and find_spec("libtpu") is None:
        raise NoCompiler(
            "plan",
            "the compiler for TPUs is not installed",
            got=f"hardware={hardware.name!r} and no package libtpu",
            expected="libtpu, which does not need a TPU to compile",
            fix=f'Install it: pip install "jax[tpu]=={version}"',
        )
    if hardware.platform == "cuda" and not any(map(find_spec, _CUDA)):
        raise NoCompiler(
            "plan",
            "the compiler for GPUs is not installed",
            got=f"hardware={hardware.name!r} and no package jax-cuda12-plugin",
            expected="two packages, which need neither a GPU nor CUDA",
            fix="Install them: pip install --no-deps"
            f" jax-cuda12-pjrt=={version} jax-cuda12-plugin=={version}",
        )
    if hardware.platform == "cuda" and not os.path.exists("/dev/nvidiactl"):
        # Running programs needs the CUDA libraries, compiling them does not.
        os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")


class _Card(tuple):
    """Compute capability, multiprocessors, float32 lanes, shared memory, L2 and clock in GHz."""


# XLA chooses tile sizes from these. Source: NVIDIA's CUDA programming guide and data sheets.
_CARDS = {
    "v100": _Card(((7, 0), 80, 64, 98304, 6, 1.53, 900, 32)),
    "t4": _Card(((7, 5), 40, 64, 65536, 4, 1.59, 320, 16)),
    "l4": _Card(((8, 9), 58, 128, 101376, 48, 2.04, 300, 24)),
    "a100-40": _Card(((8, 0), 108, 64, 166912, 40, 1.41, 1555, 40)),
    "a100": _Card(((8, 0), 108, 64, 166912, 40, 1.41, 2039, 80)),
    "h100": _Card(((9, 0), 132, 128, 232448, 50, 1.98, 3350, 80)),
    "h200": _Card(((9, 0), 132, 128, 232448, 50, 1.98, 4800, 141)),
}


def target_config(kind: str) -> str:
    """Returns the description of a GPU for the compiler: a `GpuTargetConfigProto` as text."""
    (major, minor), cores, lanes, shared, l2, clock, bandwidth, gigabytes = _CARDS[kind]
    threads = 1024 if (major, minor) == (7, 5) else 1536 if (major, minor) == (8, 9) else 2048
    extension = "feature_extension: ACCELERATED_FEATURES" if major == 9 else ""
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: {threads}
  shared_memory_per_block: 49152 shared_memory_per_core: {shared + 1024}
  shared_memory_per_block_optin: {shared} core_count: {cores} fpus_per_core: {lanes}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: {bandwidth}000000000 l2_cache_size: {l2 * 2**20} clock_rate_ghz: {clock}
  device_memory_size: {gigabytes}000000000
  cuda_compute_capability {{ major: {major} minor: {minor} {extension} }}
  runtime_version: "12.8.0" driver_version: "12.8.0" dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{kind}"
"""


def measured_peaks(
    device: Any, working_set: int, seconds: float = 0.2
) -> tuple[float, float, float]:
    """Measures the peak rates of a device.

    Args:
      device: a device of this machine.
      working_set: the number of bytes that a step accesses repeatedly; if they fit into a cache,
        the bandwidth is higher.
      seconds: the minimum duration of each measurement.

    Returns:
      FLOP/s of matrix products in bfloat16, FLOP/s in float32, and the memory bandwidth in B/s.
    """

    def best(function, *arrays):
        arrays = function(*jax.device_put(arrays, device))
        least, began, tries = float("inf"), time.perf_counter(), 0
        while tries < 10 or time.perf_counter() - began < seconds:
            tries += 1
            start = time.perf_counter()
            arrays = jax.block_until_ready(function(*arrays))
            least = min(least, time.perf_counter() - start)
        return least

    width = 512 if device.platform == "cpu" else 8192
    square = np.ones((width, width), np.float32)
    multiply = jax.jit(lambda x, y: (x, x @ y))
    single = 2 * width**3 / best(multiply, square, square)
    small = square.astype(jax.numpy.bfloat16)
    half = single if device.platform == "cpu" else 2 * width**3 / best(multiply, small, small)
    size = min(max(working_set, 2**16), 2**28) // 8
    turns = max(1, 2**24 // size)

    @partial(jax.jit, donate_argnums=(0, 1))
    def add(x, y):
        return jax.lax.fori_loop(0, turns, lambda _, pair: (pair[1], pair[0] + pair[1]), (x, y))

    moved = 3 * 4 * size * turns / best(add, *np.zeros((2, size), np.float32))
    return half, single, moved
