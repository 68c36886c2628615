"""Describes the devices, their peak performance, and accelerators that JAX does not use.

>>> peak_flops("NVIDIA H100 80GB HBM3"), peak_flops("TPU v5 lite"), peak_flops("cpu")
(989000000000000.0, 197000000000000.0, None)
"""

import os
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxnn.typing import Any

# Files and variables that exist on a machine with an accelerator, whether or not JAX can use it.
_DEVICE_FILES = {"TPU": ("/dev/accel0", "/dev/vfio/0"), "GPU": ("/dev/nvidia0", "/dev/kfd")}
_VARIABLES = {"TPU": ("TPU_ACCELERATOR_TYPE", "COLAB_TPU_ADDR"), "GPU": ("COLAB_GPU",)}


def describe() -> str:
    """Returns platform, devices, precision and version: `"cpu, 1 device, float32, jax 0.10.2"`."""
    devices = jax.devices()
    kind = devices[0].device_kind
    count = f"{len(devices)} device{'s' if len(devices) > 1 else ''}"
    platform = jax.default_backend()
    named = platform if kind.lower() == platform else f"{platform} ({kind})"
    numbers = jnp.result_type(float).name
    # On TPU, the default precision rounds the inputs of float32 products to bfloat16.
    precision = jax.config.values["jax_default_matmul_precision"]
    products = f", products in {precision}" if precision else ""
    return f"{named}, {count}, {numbers}{products}, jax {jax.__version__}"


def devices_of(tree: Any) -> tuple[Any, ...]:
    """Returns the devices that hold the arrays of a tree, or the default device if it has none."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(sharding := getattr(leaf, "sharding", None), jax.sharding.Sharding):
            return tuple(sharding.device_set)
    default: Any = jax.config.values["jax_default_device"]  # a device, a platform name, or None
    return (default if hasattr(default, "platform") else jax.devices(default)[0],)


def idle_accelerator(
    environment: Mapping[str, str] = os.environ, root: Path = Path("/")
) -> str | None:
    """Returns a warning if the machine has an accelerator but JAX runs on the CPU, else `None`.

    JAX falls back to the CPU without an error if it is upgraded without its TPU or CUDA packages,
    or if another process holds the TPU. The run would then be about a hundred times slower.
    """
    if jax.default_backend() != "cpu" or environment.get("JAX_PLATFORMS") == "cpu":
        return None
    for kind, files in _DEVICE_FILES.items():
        present = [file for file in files if (root / file.lstrip("/")).exists()]
        # An empty value or a zero means that there is no accelerator.
        present += [name for name in _VARIABLES[kind] if environment.get(name, "") not in ("", "0")]
        if present:
            return (
                f"WARNING: this machine has a {kind} ({present[0]}), but jax {jax.__version__} runs"
                f" on cpu. Install jax[{'tpu' if kind == 'TPU' else 'cuda12'}] at the same version,"
                " restart the process or the notebook's runtime, and let no other process hold the"
                " accelerator. Set JAX_PLATFORMS=cpu to run on cpu on purpose."
            )
    return None


# Peak dense FLOPS in half precision with float32 accumulation, from the manufacturers' data sheets.
# The first name that is part of the device kind applies. A device of TPU v2 or v3 is a core, half
# a chip. Products in float32 do not reach these rates.
_PEAKS = {
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "V100": 125e12,
    "T4": 65e12,
    "A100": 312e12,
    "L4": 121e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "B200": 2250e12,
}


def peak_flops(kind: str) -> float | None:
    """Returns the peak FLOPS of a kind of device, or `None` if it is not known."""
    words = f" {kind.replace('-', ' ')} "
    return next((peak for name, peak in _PEAKS.items() if f" {name} " in words), None)
