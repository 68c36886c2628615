"""What a run computes on, in one line, what that could do at most, and a warning if it stands idle.

>>> peak_flops("NVIDIA H100 80GB HBM3"), peak_flops("TPU v5 lite"), peak_flops("cpu")
(989000000000000.0, 197000000000000.0, None)
"""

import os
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxnn.typing import Any

# What is there when the machine has an accelerator, whether or not jax can use it.
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
    # On TPU, products of float32 numbers are rounded to bfloat16 unless asked otherwise.
    precision = jax.config.values["jax_default_matmul_precision"]
    products = f", products in {precision}" if precision else ""
    return f"{named}, {count}, {numbers}{products}, jax {jax.__version__}"


def devices_of(tree: Any) -> tuple[Any, ...]:
    """Returns the devices that hold the arrays of a tree; without any, the default device."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(sharding := getattr(leaf, "sharding", None), jax.sharding.Sharding):
            return tuple(sharding.device_set)
    default: Any = jax.config.values["jax_default_device"]  # a device, the name of one, or nothing
    return (default if hasattr(default, "platform") else jax.devices(default)[0],)


def idle_accelerator(
    environment: Mapping[str, str] = os.environ, root: Path = Path("/")
) -> str | None:
    """Returns a warning when the machine has an accelerator but jax runs on cpu, else `None`.

    An upgrade of jax without its TPU or CUDA packages, or another process that holds the TPU, makes
    jax fall back to the CPU without an error; the run would then be a hundred times slower.
    """
    if jax.default_backend() != "cpu" or environment.get("JAX_PLATFORMS") == "cpu":
        return None
    for kind, files in _DEVICE_FILES.items():
        present = [file for file in files if (root / file.lstrip("/")).exists()]
        # An empty string or a zero says that there is none.
        present += [name for name in _VARIABLES[kind] if environment.get(name, "") not in ("", "0")]
        if present:
            return (
                f"WARNING: this machine has a {kind} ({present[0]}), but jax {jax.__version__} runs"
                f" on cpu. Install jax[{'tpu' if kind == 'TPU' else 'cuda12'}] at the same version,"
                " restart the process or the notebook's runtime, and let no other process hold the"
                " accelerator. Set JAX_PLATFORMS=cpu to run on cpu on purpose."
            )
    return None


# Floating-point operations a second in half precision with sums in float32, dense: the makers' data
# sheets, by the first words that the name of the device has in it. A device of TPU v2 and v3 is a
# core, half a chip. Products in float32 cannot reach them.
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
    """Returns the most operations a second of a kind of device, `None` if it is unknown."""
    words = f" {kind.replace('-', ' ')} "
    return next((peak for name, peak in _PEAKS.items() if f" {name} " in words), None)
