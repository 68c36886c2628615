"""Parses compiled XLA programs: memory traffic, collective operations, and temporary arrays.

The text of a program lists computations, whose instructions name their operands. Loops count once
per iteration, and a fusion reads its inputs and writes its outputs.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = (.*)$")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{\s*$")
_CALL = re.compile(r"^(\(.*?\)|[^ (]\S*) ([\w-]+)\((.*)$")
_ARRAY = re.compile(r"\b(pred|bf16|c64|c128|[suf]\d+\w*)\[([\d,]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_GROUPS = re.compile(
    r"replica_groups=(?:\[\d+,(?P<size>\d+)\]|\{\{(?P<first>[\d,]*)\}"
    r"|mesh\[(?P<mesh>[^\]]*)\] \{(?P<axes>[^}]*)\})"
)
_BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128}
# These move no data, or are counted elsewhere: a `-done` with its start, a loop with its body.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier", "iota", "while", "conditional", "call", "copy-done", "async-done",
    "all-reduce-done", "all-gather-done", "collective-permute-done", "slice-done", "async-update",
}  # fmt: skip
_ALIASES = {"tuple", "get-tuple-element", "bitcast", "opt-barrier", "parameter", "while"}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclass
class Instruction:
    """One instruction of a computation.

    Attributes:
      name: the name of its result.
      shape: the shape of its result, as text.
      opcode: the kind of operation, such as `"fusion"`.
      operands: the names of its operands.
      rest: the text after the operands.
      is_root: whether it is the result of its computation.
    """

    name: str
    shape: str
    opcode: str
    operands: list[str]
    rest: str
    is_root: bool

    @cached_property
    def bytes(self) -> int:
        """The bytes of its result in device memory, without those in a core's fast memory."""
        return sum(sizes(self.shape))

    @property
    def op_name(self) -> str:
        """The name that JAX gives to the operation, with its function and scopes."""
        match = _OP_NAME.search(self.rest)
        return match.group(1) if match else ""

    def called(self, attribute: str) -> list[str]:
        """Returns the names of the computations in an attribute, such as `body`."""
        match = re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%[\w.-]+)", self.rest)
        return _NAME.findall(match.group(1)) if match else []


@dataclass
class Computation:
    """A computation: its instructions by name, in order."""

    name: str
    instructions: dict[str, Instruction] = field(default_factory=dict)

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """The instructions that read each result."""
        users: dict[str, list[Instruction]] = {}
        for each in self.instructions.values():
            for operand in each.operands:
                users.setdefault(operand, []).append(each)
        return users

    @cached_property
    def root(self) -> Instruction:
        """The instruction that computes the result."""
        return next(each for each in self.instructions.values() if each.is_root)


@dataclass(frozen=True)
class Message:
    """The collective operations of one kind in a step.

    Attributes:
      kind: the kind of operation, such as `"all-reduce"`.
      count: the number of operations.
      bytes: the total size of the arrays on each device.
      devices: the number of devices that take part in each operation.
    """

    kind: str
    count: int
    bytes: int
    devices: int

    @property
    def sent(self) -> float:
        """The bytes that each device sends, with ring algorithms."""
        share = (self.devices - 1) / self.devices
        return self.bytes * (2 * share if self.kind == "all-reduce" else share)


class Program:
    """A compiled program, parsed from its text."""

    def __init__(self, text: str):
        self.computations: dict[str, Computation] = {}
        self.entry = ""
        current = None
        for line in text.splitlines():
            if current is None:
                if head := _HEAD.match(line):
                    current = Computation(head.group(2))
                    self.computations[current.name] = current
                    self.entry = current.name if head.group(1) else self.entry
            elif line.startswith("}"):
                current = None
            elif parsed := _parsed(line):
                current.instructions[parsed.name] = parsed

    @cached_property
    def step(self) -> str:
        """The computation of one step: the body of the loop of unknown length, if any."""
        for each in self.computations[self.entry].instructions.values():
            if each.opcode == "while" and not _TRIPS.search(each.rest):
                return each.called("body")[0]
        return self.entry

    def executed(self, name: str = "", times: int = 1) -> Iterator[tuple[Instruction, int, str]]:
        """Yields each instruction of a step, how often it is executed, and its computation."""
        name = name or self.step
        for each in self.computations[name].instructions.values():
            yield each, times, name
            if each.opcode == "while":
                trips = _TRIPS.search(each.rest)
                turns = int(trips.group(1)) if trips else 1
                for body in each.called("body"):
                    yield from self.executed(body, times * turns)
            elif each.opcode == "call":
                for inner in each.called("to_apply"):
                    yield from self.executed(inner, times)
            elif each.opcode == "conditional":
                inner = each.called("branch_computations") or each.called("true_computation")
                for branch in inner[:1]:
                    yield from self.executed(branch, times)

    def moved(self) -> int:
        """Returns the bytes that a step reads from memory and writes to it."""
        return sum(times * self.traffic(each, name) for each, times, name in self.executed())

    def traffic(self, instruction: Instruction, name: str) -> int:
        """Returns the bytes that an instruction reads and writes."""
        if instruction.opcode in _FREE:
            return 0
        own = self.computations[name].instructions
        inputs = [own[operand] for operand in instruction.operands if operand in own]
        inner = self.computations.get(next(iter(instruction.called("calls")), ""))
        if instruction.opcode == "fusion" and inner:
            return _fused(inner)
        if instruction.opcode in ("dynamic-slice", "gather", "slice"):
            return 2 * instruction.bytes
        if instruction.opcode == "dynamic-update-slice" and len(inputs) > 1:
            return 2 * inputs[1].bytes
        if instruction.opcode == "copy-start":
            return sum(sizes(instruction.shape)[:2])
        if instruction.opcode.endswith("-start") and instruction.shape.startswith("("):
            return instruction.bytes  # its operands are part of it
        return instruction.bytes + sum(each.bytes for each in inputs)

    @cached_property
    def op_names(self) -> dict[str, str]:
        """The JAX operation that each instruction of a step computes, by the instruction's name.

        Names inside a loop may be relative to the loop. Instructions that XLA adds have no name;
        they get the name of an operand, or of an instruction in their fusion.
        """
        names: dict[str, str] = {}
        loops: dict[str, str] = {}
        for each, _, computation in self.executed():
            inner = next(iter(each.called("calls")), "")
            fused = self.computations[inner].instructions.values() if inner else ()
            own = each.op_name or max((one.op_name for one in fused), key=len, default="")
            own = own or next((names[one] for one in each.operands if names.get(one)), "")
            within = loops.get(computation, "")
            if own and "jit(" not in own and within:
                own = f"{within}/{own}"
            names[each.name] = own
            if each.opcode == "while":
                loops |= dict.fromkeys(each.called("body"), own)
        return names

    def arrays(self) -> list[tuple[str, str, int]]:
        """Returns `(operation, shape, bytes)` for each array that a step allocates."""
        return [
            (self.op_names[each.name], each.shape.split("{")[0], each.bytes)
            for each, _, _ in self.executed()
            if each.opcode not in _ALIASES and each.bytes and "(" not in each.shape[:1]
        ]

    def traffic_by_name(self) -> dict[str, int]:
        """Returns the bytes that a step reads and writes, by the name of the JAX operation."""
        sums: dict[str, int] = {}
        for each, times, name in self.executed():
            own = self.op_names[each.name]
            sums[own] = sums.get(own, 0) + times * self.traffic(each, name)
        return sums

    def messages(self) -> list[Message]:
        """Returns the collective operations of a step, by kind and number of devices."""
        sums: dict[tuple[str, int], tuple[int, int]] = {}
        for kind, each, times in self._collectives():
            devices, parts = _group(each.rest), sizes(each.shape, anywhere=True)
            count = len(each.operands)
            if each.opcode.endswith("-start") and len(parts) >= 2 * count:
                size = max(sum(parts[:count]), sum(parts[count : 2 * count]))
            else:
                size = sum(parts) * (devices if each.opcode == "reduce-scatter" else 1)
            if devices > 1:
                before, total = sums.get((kind, devices), (0, 0))
                sums[kind, devices] = before + times, total + times * size
        return [Message(kind, *sums[kind, devices], devices) for kind, devices in sorted(sums)]

    def _collectives(self) -> Iterator[tuple[str, Instruction, int]]:
        """Yields the kind of each collective, its instruction, and how often it is executed."""
        for each, times, _ in self.executed():
            inner = [each]
            for name in each.called("calls"):
                inner += self.computations[name].instructions.values()
            # On TPU, a reduce-scatter is a fusion that contains an all-reduce.
            scatters = any("reduce-scatter" in name for name in (each.name, *each.called("calls")))
            for one in inner:
                kind = one.opcode.removesuffix("-start")
                if kind in COLLECTIVES:
                    is_scatter = kind == "all-reduce" and scatters
                    yield "reduce-scatter" if is_scatter else kind, one, times


def _parsed(line: str) -> Instruction | None:
    match = _INSTRUCTION.match(line)
    if not match:
        return None
    root, name, rest = match.groups()
    shape, rest = _shape_and_rest(rest)
    call = re.match(r" ?([\w-]+)\(", rest)
    if not call:
        return None
    depth, end = 1, call.end()
    while end < len(rest) and depth:
        depth += {"(": 1, ")": -1}.get(rest[end], 0)
        end += 1
    operands = _NAME.findall(rest[call.end() : end])
    return Instruction(name, shape, call.group(1), operands, rest[end:], bool(root))


def _shape_and_rest(text: str) -> tuple[str, str]:
    if not text.startswith("("):
        shape, _, rest = text.partition(" ")
        return shape, rest
    depth = 0
    for place, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if not depth:
            return text[: place + 1], text[place + 1 :]
    return text, ""


def sizes(shape: str, *, anywhere: bool = False) -> list[int]:
    """Returns the bytes of each array of a shape; 0 for those in a TPU core's fast memory.

    With `anywhere`, these count too.

    >>> sizes("(f32[2,3]{1,0}, bf16[4]{0:T(256)S(1)})")
    [24, 0]
    """
    counted = []
    for dtype, axes, layout in _ARRAY.findall(shape):
        bits = _BITS.get(dtype) or int(re.sub(r"\D.*", "", dtype[1:]))
        count = math.prod(int(axis) for axis in axes.split(",") if axis)
        is_near = not anywhere and re.search(r"S\([1-9]\)", layout)
        counted.append(0 if is_near else -(-count * bits // 8))
    return counted


def _fused(computation: Computation) -> int:
    """Returns the bytes that a fusion reads and writes; a sliced array counts as its slice."""
    instructions, total = computation.instructions, 0
    for each in instructions.values():
        if each.opcode != "parameter" or not each.bytes:
            continue
        users = computation.users.get(each.name, [])
        reads = [_read(each.name, user, computation) for user in users]
        total += min(each.bytes, sum(each.bytes if read is None else read for read in reads))
    outputs = [computation.root]
    if outputs[0].opcode == "tuple":
        outputs = [instructions[name] for name in outputs[0].operands]
    return total + sum(_written(each, computation) for each in outputs)


def _read(name: str, user: Instruction, computation: Computation) -> int | None:
    """Returns the bytes of an array that a user reads; `None` if it reads the whole array."""
    if user.opcode in ("dynamic-slice", "gather", "slice") and user.operands[0] == name:
        return sum(sizes(user.shape, anywhere=True))
    if user.opcode == "dynamic-update-slice" and user.operands[0] == name:
        return 0
    if user.opcode == "bitcast":
        users = computation.users.get(user.name, [])
        reads = [_read(user.name, each, computation) for each in users]
        return None if None in reads else sum(read for read in reads if read is not None)
    return None


def _written(output: Instruction, computation: Computation) -> int:
    instructions = computation.instructions
    while output.opcode == "bitcast" and output.operands[0] in instructions:
        output = instructions[output.operands[0]]
    if output.opcode == "dynamic-update-slice" and output.bytes:
        return sum(sizes(instructions[output.operands[1]].shape, anywhere=True))
    return output.bytes


def _group(text: str) -> int:
    """Returns the number of devices that take part in a collective operation."""
    match = _GROUPS.search(text)
    if not match:
        return 2 if "source_target_pairs" in text else 1
    if match["size"]:
        return int(match["size"])
    if match["first"] is not None:
        return len([each for each in match["first"].split(",") if each])
    counts = dict(re.findall(r"'([^']*)'=(\d+)", match["mesh"]))
    return math.prod(int(counts[axis]) for axis in re.findall(r"'([^']*)'", match["axes"]))
