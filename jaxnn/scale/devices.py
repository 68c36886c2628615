"""What a run computes on, said in one line, and loudly when an accelerator stands idle."""

import os
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp

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
