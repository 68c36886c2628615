"""Peak rates and memory of TPUs and GPUs, from the manufacturers' specifications.

>>> hardware("v5e:4x4").devices, hardware("a100x8").chip.name, hardware("v6e-1").devices
(16, 'NVIDIA A100 80GB', 1)
"""

import re
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from jaxnn.checks import InvalidType, InvalidValue, choice
from jaxnn.formatting import amount
from jaxnn.typing import Any

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """The peak rates and memory of a device.

    Attributes:
      name: the manufacturer's name.
      platform: `"tpu"`, `"cuda"` or `"cpu"`.
      bf16: FLOP/s of dense matrix products in bfloat16.
      f32: FLOP/s of dense matrix products of float32 arrays at JAX's default precision, which is
        bfloat16 on TPUs and TF32 on newer GPUs.
      memory: the memory in bytes.
      usable: the part of the memory that programs can use, in bytes.
      bandwidth: the memory bandwidth in B/s.
      link: the bandwidth to other chips in B/s, in one direction, over all links together.
      source: the source of these figures.
    """

    name: str
    platform: str
    bf16: float
    f32: float
    memory: float
    usable: float
    bandwidth: float
    link: float
    source: str

    def peak(self, dtype: str) -> float:
        """Returns the peak FLOP/s of matrix products of a dtype."""
        return self.f32 if dtype in ("float32", "float64", "complex64") else self.bf16


def _tpu(name: str, bf16: float, gib: float, bandwidth: float, link: float, usable: float) -> Chip:
    source = f"cloud.google.com/tpu/docs/{name.removeprefix('TPU ').lower()}"
    flops = 1e12 * bf16
    return Chip(name, "tpu", flops, flops, gib * GIB, usable * GIB, 1e9 * bandwidth, link, source)


def _gpu(name: str, bf16: float, f32: float, gb: float, bandwidth: float, link: float) -> Chip:
    source = f"NVIDIA's data sheet of the {name.removeprefix('NVIDIA ')}"
    memory = gb * 1e9
    # JAX uses three quarters of a GPU's memory by default, see XLA_PYTHON_CLIENT_MEM_FRACTION.
    peaks = 1e12 * bf16, 1e12 * f32
    return Chip(name, "cuda", *peaks, memory, 0.75 * memory, 1e9 * bandwidth, 1e9 * link, source)


# The usable memory of a TPU is the limit in its compiler's messages. The link bandwidth is half of
# the manufacturer's figure if that counts both directions.
CHIPS = {
    "v4": _tpu("TPU v4", 275, 32, 1200, 150e9, 30.75),
    "v5e": _tpu("TPU v5e", 197, 16, 819, 100e9, 15.75),
    "v5p": _tpu("TPU v5p", 459, 95, 2765, 300e9, 94.0),
    "v6e": _tpu("TPU v6e", 918, 32, 1640, 224e9, 31.25),
    "v100": _gpu("NVIDIA V100 32GB", 125, 15.7, 32, 900, 150),
    "t4": _gpu("NVIDIA T4", 65, 8.1, 16, 320, 16),
    "l4": _gpu("NVIDIA L4", 121, 60, 24, 300, 32),
    "a100-40": _gpu("NVIDIA A100 40GB", 312, 156, 40, 1555, 300),
    "a100": _gpu("NVIDIA A100 80GB", 312, 156, 80, 2039, 300),
    "h100": _gpu("NVIDIA H100 SXM", 989, 494.5, 80, 3350, 450),
    "h200": _gpu("NVIDIA H200 SXM", 989, 494.5, 141, 4800, 450),
}
# The default topology for each number of TPU chips, as in Google Cloud.
_SHAPES = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8"}
_SHAPES_3D = {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4"}
_THREE_AXES = ("v4", "v5p")
KNOWN = ("here", "cpu", "v5e-1", "v5e-8", "v5e:4x4", "v6e-1", "v6e-8", "v4-8", "v5p-8", "t4", "l4")
KNOWN = (*KNOWN, "v100x8", "a100x8", "a100-40x8", "h100x8", "h200x8")


class Hardware(NamedTuple):
    """The devices of a plan.

    Attributes:
      name: the name as given.
      kind: a key of `CHIPS`, or `"cpu"` or `"here"` for this machine.
      topology: the topology of a TPU, such as `"4x4"`; otherwise the number of devices.
      chip: the peak rates of each device; `None` for this machine, which is measured.
    """

    name: str
    kind: str
    topology: str
    chip: Chip | None

    @property
    def platform(self) -> str:
        """`"tpu"`, `"cuda"`, `"cpu"`, or `"here"` for the default backend of this machine."""
        return self.chip.platform if self.chip else self.kind

    @property
    def devices(self) -> int:
        """The number of devices."""
        return prod(map(int, self.topology.split("x")))


def hardware(name: Any) -> Hardware:
    """Parses the name of some hardware.

    TPUs are named by the number of chips, `"v5e-8"`, or their topology, `"v5e:2x4"`; GPUs by their
    number, `"a100x8"` or `"h100"`. `"cpu"` and `"here"` are the first device of this process, for
    `"here"` of the default backend.

    Raises:
      InvalidType: if the name is not a string.
      InvalidValue: if the name is unknown.
    """
    if not isinstance(name, str):
        raise InvalidType(
            "plan", "hardware has the wrong type", got=f"hardware={name!r}", expected="a string",
            fix="Pass hardware='v5e-1'",
        )  # fmt: skip
    if name in ("cpu", "here"):
        return Hardware(name, name, "1", None)
    kinds = "|".join(sorted(map(re.escape, CHIPS), key=len, reverse=True))
    matched = re.fullmatch(rf"({kinds})(?:-(\d+)|:(\d+(?:x\d+)+)|x(\d+))?", name)
    if not matched:
        choice("plan", "hardware", name, KNOWN)
        raise AssertionError(name)  # the pattern matches all known names
    kind, chips, topology, count = matched.groups()
    chip = CHIPS[kind]
    if chip.platform == "cuda":
        return Hardware(name, kind, _gpus(name, kind, chips or topology, count), chip)
    shapes = _SHAPES_3D if kind in _THREE_AXES else _SHAPES
    if topology is None:
        number = int(chips or count or min(shapes))
        if number not in shapes:
            raise InvalidValue(
                "plan",
                f"there is no {kind} with this number of chips",
                got=f"hardware={name!r}",
                expected=f"one of {', '.join(f'{kind}-{each}' for each in shapes)}",
                fix=f"Pass hardware='{kind}-{min(shapes, key=lambda n: abs(n - number))}', or a"
                f" topology, '{kind}:{max(shapes.values(), key=len)}'",
            )
        topology = shapes[number]
    return Hardware(name, kind, topology, chip)


def _gpus(name: str, kind: str, wrong: str | None, count: str | None) -> str:
    if wrong is not None or count == "0":
        raise InvalidValue(
            "plan",
            "the number of GPUs has the wrong form",
            got=f"hardware={name!r}",
            expected=f"'{kind}' or '{kind}x8'",
            fix=f"Pass hardware='{kind}x{wrong if (wrong or '0').isdigit() and wrong else 8}'",
        )
    return count or "1"


def described(chip: Chip, devices: int) -> str:
    """Describes the peak rates and memory of some devices in one line."""
    many = f"{devices} x " if devices > 1 else ""
    link = f", link {amount(round(chip.link), 'B/s')}" if devices > 1 else ""
    return (
        f"{many}{chip.name}: {amount(round(chip.bf16), 'FLOP/s')} in bfloat16,"
        f" {amount(round(chip.f32), 'FLOP/s')} in float32, {chip.memory / GIB:.4g} GiB at"
        f" {amount(round(chip.bandwidth), 'B/s')}{link}"
    )
