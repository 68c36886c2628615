"""The figures of a plan, and the table that shows them."""

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
    """Bytes of a device that a program takes.

    Attributes:
      arguments: state and data, which are there all the time.
      temporary: what it makes while it runs.
      outputs: what it gives back beside the state, which is written in place.
      peak: all of them together.
    """

    arguments: int
    temporary: int
    outputs: int
    peak: int


class Buffer(NamedTuple):
    """An array of a program, with its bytes on a device.

    Attributes:
      name: of an argument its name, of a temporary the part of the network that makes it.
      kind: `"argument"` or `"temporary"`.
      shape: as the compiler writes it; `""` for arguments.
      bytes: on each device.
    """

    name: str
    kind: str
    shape: str
    bytes: int


@dataclass(frozen=True)
class Plan:
    """What a training step takes on some hardware; figures are of a device if not said otherwise.

    Attributes:
      hardware: its name.
      chip: what each device can do.
      devices: their number.
      batch_size: examples of a step, over all devices.
      rules: how parameters are split, `None` on one device.
      flops: of all products of a step, over all devices; of remat, those of computing again too.
      flops_by_dtype: the same by the dtype of the numbers.
      memory: the bytes that the program takes.
      buffers: the largest arrays.
      moved: bytes to and from memory in a step; `None` of a program that does not fit.
      messages: what devices send each other in a step.
      seconds: that making the plan took.
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
        """The bytes that each device lacks; 0 if the program fits."""
        return max(0, round(self.memory.peak - self.chip.usable))

    @cached_property
    def times(self) -> dict[str, float]:
        """The least seconds of a step that each resource allows: products, memory and links."""
        products = sum(n / self.chip.peak(dtype) for dtype, n in self.flops_by_dtype.items())
        times = {"products": products / self.devices}
        if self.moved is not None:
            times["memory"] = self.moved / self.chip.bandwidth
        if self.messages:
            times["links"] = sum(each.sent for each in self.messages) / self.chip.link
        return times

    @property
    def step_seconds(self) -> float:
        """The roofline: the time of the slowest resource, as if the others cost nothing.

        Memory traffic counts what each operation reads and writes, as if there were no caches.
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
        """Whether it fits and how fast a step can be, in a line."""
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
            f" {amount(round(rate))} examples a second."
        )

    def _figures(self) -> list[tuple[str, str, str]]:
        memory, many = self.memory, self.devices > 1
        used = percent(memory.peak / self.chip.usable)
        each = " a device" if many else ""
        rows = [
            ("batch", f"{self.batch_size:,}", f"examples over {count(self.devices, 'device')}"
             + (f", {self.rules}" if self.rules else "")),
            (f"memory{each}", amount(memory.peak, "B"), f"at its peak, {used} of what is usable"),
            ("  arguments", amount(memory.arguments, "B"), "parameters, optimizer and data"),
            ("  temporary", amount(memory.temporary, "B"), "activations and gradients"),
            ("FLOPs a step", amount(self.flops), ", ".join(
                f"{amount(n)} in {dtype}" for dtype, n in self.flops_by_dtype.items())),
        ]  # fmt: skip
        if self.moved is not None:
            rows.append((f"bytes a step{each}", amount(self.moved, "B"), "to and from memory"))
        for name, time in self.times.items():
            share = "the bound" if name == self.bound else f"{percent(time / self.step_seconds)}"
            rows.append((f"time for {_TIMES[name]}", seconds(time), share))
        return rows

    def _messages(self) -> list[tuple[str, str, str, str]]:
        rows = [("collectives a step", "count", "bytes", "among")]
        return rows + [
            (each.kind, f"{each.count:,}", amount(each.bytes, "B"), count(each.devices, "device"))
            for each in self.messages
        ]

    def _buffers(self) -> list[tuple[str, str, str, str]]:
        rows = [("largest arrays", "kind", "shape", "a device")]
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
        """Returns what JSON can hold: all figures by name."""
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
    "links": "what devices send each other",
}


def seconds(time: float) -> str:
    """Returns a short time in its unit.

    >>> seconds(0.0123), seconds(4e-6), seconds(2.5)
    ('12.3 ms', '4.00 us', '2.50 s')
    """
    unit, scale = next(
        (each for each in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)) if time >= each[1]), ("ns", 1e-9)
    )
    number = time / scale
    digits = 0 if number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f} {unit}"
