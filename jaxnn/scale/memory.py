"""Memory: what a device has, what a program needs, and how much of it fits."""

import os
from pathlib import Path

import jax

from jaxnn.typing import Any

# What the runtime, its buffers for transfers and the fragments between arrays take.
SHARE = 0.9


def available(device: Any) -> int:
    """Returns the bytes that arrays may take on a device; cores that are devices share theirs."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(SHARE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))
    return int(SHARE * _free() / len(jax.local_devices(backend="cpu")))


def _free() -> int:
    """Returns the bytes of main memory that are not in use."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("MemAvailable:")]
        return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def size(tree: Any) -> int:
    """Returns the bytes of a tree of arrays, or of their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def needed(compiled: Any) -> int:
    """Returns the bytes that a compiled program takes while it runs, its arguments included."""
    stats = compiled.memory_analysis()
    if stats is None:
        return 0
    new = stats.output_size_in_bytes - stats.alias_size_in_bytes
    return stats.argument_size_in_bytes + new + stats.temp_size_in_bytes
