"""Measures the memory that a device has, that a process uses, and that a program needs."""

import math
import os
import resource
import sys
from pathlib import Path
from typing import NamedTuple

import jax

from jaxnn.typing import Any

# The rest is for the runtime, its transfer buffers, and fragmentation.
SHARE = 0.9


def available(device: Any) -> int:
    """Returns the bytes that arrays may take on a device; CPU devices share the main memory."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(SHARE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))
    return int(SHARE * _free() / len(jax.local_devices(backend="cpu")))


class Used(NamedTuple):
    """Memory in use, in bytes; `None` where it is not known.

    Attributes:
      now: the memory in use.
      peak: the peak memory use.
      of: `"device"` for the device with the highest peak, or `"process"`.
    """

    now: int | None
    peak: int | None
    of: str


def used() -> Used:
    """Returns the memory in use on the devices, or in this process if that is not known."""
    uses = []
    for device in jax.local_devices():
        stats = device.memory_stats() if device.platform != "cpu" else None
        if stats and "bytes_in_use" in stats:
            now = int(stats["bytes_in_use"])
            uses.append(Used(now, int(stats.get("peak_bytes_in_use", now)), "device"))
    return max(uses, key=lambda each: each.peak or 0) if uses else used_by()


def used_by(process: int | None = None) -> Used:
    """Returns the main memory that a process uses; by default, this process."""
    try:
        place = Path(f"/proc/{'self' if process is None else process}/status")
        lines = dict(line.split(":", 1) for line in place.read_text().splitlines())
        now, peak = (1024 * int(lines[name].split()[0]) for name in ("VmRSS", "VmHWM"))
        return Used(now, peak, "process")
    except (OSError, ValueError, KeyError):
        if process is not None:
            return Used(None, None, "process")
    # Without /proc, only the peak is known: in kilobytes, but on macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Used(None, peak * (1 if sys.platform == "darwin" else 1024), "process")


def _free() -> int:
    """Returns the available bytes of main memory."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("MemAvailable:")]
        return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def size(tree: Any) -> int:
    """Returns the total bytes of a tree of arrays or shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def device_size(tree: Any, shardings: Any) -> int:
    """Returns the bytes of a tree of arrays or shapes that one device holds."""

    def own(leaf: Any, sharding: Any) -> int:
        return math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize

    return sum(jax.tree.leaves(jax.tree.map(own, tree, shardings)))


def needed(compiled: Any, platform: str) -> int:
    """Returns the bytes that a compiled program takes at run time, including its arguments."""
    stats = compiled.memory_analysis()
    if stats is None:
        return 0
    return stats.argument_size_in_bytes + output_bytes(stats) + temporary_bytes(stats, platform)


def output_bytes(stats: Any) -> int:
    """Returns the bytes of the outputs that do not take the place of an argument."""
    return max(0, stats.output_size_in_bytes - stats.alias_size_in_bytes)


def temporary_bytes(stats: Any, platform: str) -> int:
    """Returns the bytes of a program's temporary arrays on a device, from its `memory_analysis`.

    For a TPU, XLA counts some arrays of loops twice in `temp_size_in_bytes`: by this size, a
    program that fits into 16.9 GB takes 22.2 GB. The peak does not, but it includes the 128 MiB
    inside the chip, so that it is too large for small programs. The smaller of both is within 3 %
    of what the compiler assigns (docs/decisions/0015-meshes.md).
    """
    size = stats.temp_size_in_bytes
    if platform != "tpu" or not stats.peak_memory_in_bytes:
        return size
    peak = stats.peak_memory_in_bytes - stats.argument_size_in_bytes - output_bytes(stats)
    return min(size, max(0, peak))
