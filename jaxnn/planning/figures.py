"""The `Plan`: memory, FLOPs, traffic and messages of a training step, and their tables."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from jaxnn import display
from jaxnn.formatting import aligned, amount, count, percent
from jaxnn.markup import element
from jaxnn.planning.hardware import Chip, described
from jaxnn.planning.hlo import Message
from jaxnn.typing import Any


class Memory(NamedTuple):
    """The memory of a program on each device, in bytes.

    Attributes:
      arguments: the state and the data, which stay in memory between steps.
      temporary: intermediate arrays, such as activations and gradients.
      outputs: the outputs, except the state, which is updated in place.
      peak: the sum of all three.
    """

    arguments: int
    temporary: int
    outputs: int
    peak: int


class Buffer(NamedTuple):
    """An array of a program.

    Attributes:
      name: the name of an argument, or the part of the network that computes a temporary array.
      kind: `"argument"` or `"temporary"`.
      shape: the shape in XLA's notation, such as `"f32[8,128]"`; `""` for arguments.
      bytes: the size in bytes on each device.
    """

    name: str
    kind: str
    shape: str
    bytes: int


@dataclass(frozen=True)
class Plan:
    """The resources that a training step needs on some hardware.

    Attributes:
      hardware: the name of the hardware.
      chip: the peak rates and memory of each device.
      devices: the number of devices.
      batch_size: the number of examples per step, over all devices.
      rules: the name of the sharding rules; `None` on one device.
      flops: the FLOPs of matrix products and convolutions per step, over all devices, including
        those that `remat` recomputes.
      flops_by_dtype: the same, by the dtype of the operands.
      memory: the memory of the program on each device.
      buffers: the largest arrays.
      moved: the bytes that each device reads from and writes to memory per step; `None` if the
        program does not fit.
      messages: the collective operations of a step.
      seconds: the time that planning took.
    """

    hardware: str
    chip: Chip
    devices: int
    batch_size: int
    rules: str | None
    flops: int
    flops_by_dtype: dict[str, int]
    memory: Memory
    buffers: tuple[Buffer, ...] = field(repr=False)
    moved: int | None
    messages: tuple[Message, ...]
    seconds: float

    @property
    def fits(self) -> bool:
        """Whether the program fits into the memory of each device."""
        return self.memory.peak <= self.chip.usable

    @property
    def missing(self) -> int:
        """The additional bytes that each device would need; 0 if the program fits."""
        return max(0, round(self.memory.peak - self.chip.usable))

    @cached_property
    def times(self) -> dict[str, float]:
        """The minimum time of a step in seconds, by resource: products, memory and links."""
        products = sum(n / self.chip.peak(dtype) for dtype, n in self.flops_by_dtype.items())
        times = {"products": products / self.devices}
        if self.moved is not None:
            times["memory"] = self.moved / self.chip.bandwidth
        if self.messages:
            times["links"] = sum(each.sent for each in self.messages) / self.chip.link
        return times

    @property
    def step_seconds(self) -> float:
        """The minimum time of a step in seconds, by the roofline model.

        It is the time of the slowest resource. Memory traffic assumes that no reads are cached.
        """
        return max(self.times.values())

    @property
    def bound(self) -> str:
        """The resource that bounds a step: `"products"`, `"memory"` or `"links"`."""
        return max(self.times, key=lambda name: self.times[name])

    def __str__(self) -> str:
        parts = [f"Plan for {self.hardware}: {described(self.chip, self.devices)}"]
        parts += [aligned(self._figures(), "<><", "  ")]
        if self.messages:
            parts += [aligned(self._messages(), "<>><", "  ")]
        parts += [aligned(self._buffers(), "<<<>", "  "), self.verdict]
        return "\n\n".join(parts)

    __repr__ = __str__

    @property
    def verdict(self) -> str:
        """A sentence that says whether the program fits, and how fast a step can be."""
        peak, usable = amount(self.memory.peak, "B"), amount(round(self.chip.usable), "B")
        if not self.fits:
            return (
                f"Does not fit: {peak} of {usable} on each device, {amount(self.missing, 'B')} too"
                " much."
            )
        rate = self.batch_size / self.step_seconds
        return (
            f"Fits: {peak} of {usable} on each device. At its best a step takes"
            f" {seconds(self.step_seconds)}, bound by {_BOUND[self.bound]}:"
            f" {amount(round(rate))} examples per second."
        )

    def _figures(self) -> list[tuple[str, str, str]]:
        memory, many = self.memory, self.devices > 1
        used = percent(memory.peak / self.chip.usable)
        each = " per device" if many else ""
        rows = [
            ("batch", f"{self.batch_size:,}", f"examples over {count(self.devices, 'device')}"
             + (f", {self.rules}" if self.rules else "")),
            (f"memory{each}", amount(memory.peak, "B"), f"at its peak, {used} of what is usable"),
            ("  arguments", amount(memory.arguments, "B"), "parameters, optimizer and data"),
            ("  temporary", amount(memory.temporary, "B"), "activations and gradients"),
            ("FLOPs per step", amount(self.flops), ", ".join(
                f"{amount(n)} in {dtype}" for dtype, n in self.flops_by_dtype.items())),
        ]  # fmt: skip
        if self.moved is not None:
            rows.append((f"bytes per step{each}", amount(self.moved, "B"), "to and from memory"))
        for name, time in self.times.items():
            share = "the bound" if name == self.bound else f"{percent(time / self.step_seconds)}"
            rows.append((f"time for {_TIMES[name]}", seconds(time), share))
        return rows

    def _messages(self) -> list[tuple[str, str, str, str]]:
        rows = [("collectives per step", "count", "bytes", "among")]
        return rows + [
            (each.kind, f"{each.count:,}", amount(each.bytes, "B"), count(each.devices, "device"))
            for each in self.messages
        ]

    def _buffers(self) -> list[tuple[str, str, str, str]]:
        rows = [("largest arrays", "kind", "shape", "per device")]
        return rows + [
            (each.name or "between the parts", each.kind, each.shape, amount(each.bytes, "B"))
            for each in self.buffers
        ]

    def _repr_html_(self) -> str:
        return display.block(
            element("div", f"Plan for {self.hardware}: {described(self.chip, self.devices)}"),
            display.columns(("", "", ""), self._figures(), left=1),
            display.columns(self._buffers()[0], self._buffers()[1:], left=3),
            element("div", self.verdict),
        )

    def as_json(self) -> dict[str, Any]:
        """Returns all figures by name, as a JSON-serializable dict."""
        return {
            "hardware": self.hardware, "devices": self.devices, "batch_size": self.batch_size,
            "rules": self.rules, "flops": self.flops, "flops_by_dtype": self.flops_by_dtype,
            "memory": self.memory._asdict(), "usable": round(self.chip.usable), "fits": self.fits,
            "buffers": [each._asdict() for each in self.buffers], "moved": self.moved,
            "messages": [vars(each) for each in self.messages], "times": self.times,
            "step_seconds": self.step_seconds, "bound": self.bound,
        }  # fmt: skip


_TIMES = {"products": "products", "memory": "memory traffic", "links": "the links"}
_BOUND = {
    "products": "matrix products",
    "memory": "memory traffic",
    "links": "communication between devices",
}


def seconds(time: float) -> str:
    """Returns a time with three significant digits, in s, ms, us or ns.

    >>> seconds(0.0123), seconds(4e-6), seconds(2.5)
    ('12.3 ms', '4.00 us', '2.50 s')
    """
    unit, scale = next(
        (each for each in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)) if time >= each[1]), ("ns", 1e-9)
    )
    number = time / scale
    digits = 0 if number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f} {unit}"
