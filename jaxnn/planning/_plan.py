"""Plans: the real training step, compiled for hardware that need not be there, in figures.

>>> import numpy as np, optax
>>> from jaxnn.layers import linear
>>> from jaxnn.learning import learner
>>> from jaxnn.objectives import regression
>>> batch = {"inputs": np.ones((8, 4), np.float32), "labels": np.ones((8, 1), np.float32)}
>>> planned = plan(learner(linear(1), regression(), optax.sgd(0.1)), batch, hardware="cpu")
>>> planned.flops, planned.fits
(128, True)
"""

import re
import time
from collections.abc import Mapping
from dataclasses import replace

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.data import Data, resident
from jaxnn.driver import train
from jaxnn.driver.chunks import Training
from jaxnn.driver.feeding import traced
from jaxnn.learning import Learner
from jaxnn.loop._advance import looped, stepped
from jaxnn.loop._run import best_form
from jaxnn.loop.unchanged import split
from jaxnn.names import named_leaves
from jaxnn.planning.compilers import devices_of, measured_peaks
from jaxnn.planning.figures import Buffer, Memory, Plan
from jaxnn.planning.hardware import Chip, Hardware
from jaxnn.planning.hardware import hardware as read_name
from jaxnn.planning.hlo import Program
from jaxnn.planning.parts import part_of
from jaxnn.programs import operations, products_of
from jaxnn.scale._mesh import mesh as mesh_of
from jaxnn.scale._shard import shard
from jaxnn.scale.memory import available
from jaxnn.scale.rules import replicated
from jaxnn.typing import Any, Hparams

LARGEST = 8


def plan(
    learner: Learner,
    data: Data | Mapping[str, Any],
    hardware: str = "cpu",
    *,
    rules: Any = None,
    model: int = 1,
    hparams: Hparams | None = None,
    key: Any = None,
    start: Any = None,
    fast: bool = False,
) -> Plan:
    """Compiles the training step for some hardware, which need not be there; nothing runs.

    Args:
      learner: how parameters change, without a mesh.
      data: what it learns from, or one batch, `{"inputs": ..., "labels": ...}`, as arrays or
        `jax.ShapeDtypeStruct`s; of a batch the arguments of the program are only that.
      hardware: `"v5e-1"`, `"v6e-8"`, `"v5e:4x4"`, `"a100x8"`, `"h100"`, or `"cpu"` and
        `"here"`, which are of this machine, whose peaks are measured.
      rules: which parameters are split over several devices, such as `jaxnn.scale.fsdp`.
      model: the devices along the axis `model` of the mesh, which `tensor` rules split over.
      hparams: the hyper-parameters; arrays of one for each member.
      key: the key, or one for each member.
      start: parameters and state to begin with, see `train`.
      fast: whether the TPU's compiler may take less care: in a fraction of the time, to a program
        that takes more memory.

    Raises:
      InvalidValue: if the hardware is unknown, or an argument cannot be used.
      NoCompiler: if the compiler for that hardware is not installed.
    """
    target = read_name(hardware)
    devices = devices_of(target)
    data = as_data(data)
    if learner.placement is not None:
        raise InvalidValue(
            "plan", "the learner has a mesh already", got="a learner that shard returned",
            expected="one without a mesh", fix="Pass the learner, and rules=jaxnn.scale.fsdp",
        )  # fmt: skip
    key = jax.random.key(0) if key is None else key
    if target.devices > 1:
        mesh = mesh_of(-1, model, devices=devices)
        learner = shard(learner, mesh, replicated if rules is None else rules)
    training = train(learner, data, steps=1_000_000, key=key, hparams=hparams, start=start)
    return plan_of(training, target, devices, fast=fast)


def as_data(data: Any) -> Data:
    """Returns data, or a batch as data of which it is all: zeros, where only shapes are known."""
    if not isinstance(data, Mapping):
        return data
    leaves = jax.tree.leaves(data)
    if not leaves or not all(getattr(leaf, "shape", ()) for leaf in leaves):
        raise InvalidType(
            "plan", "the batch has no examples", got=f"a batch of the fields {', '.join(data)}",
            expected="arrays or jax.ShapeDtypeStructs, [examples, ...] each",
            fix="Pass {'inputs': inputs, 'labels': labels}",
        )  # fmt: skip
    arrays = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x, data
    )
    return resident(arrays, batch_size=leaves[0].shape[0])


def plan_of(
    training: Training, target: Hardware, devices: list[Any], *, fast: bool = False
) -> Plan:
    """Returns the plan of a training, whose learner is on a mesh of these devices, if several."""
    began = time.perf_counter()
    form = best_form(training.program, devices[0].platform)
    lowered, names, sizes = lower(replace(training, form=form), devices[0])
    count, members = target.devices, training.layout.members or 1
    flops = {
        dtype: 2 * number * members for dtype, number in products_by_dtype(training.program).items()
    }
    options = {"exec_time_optimization_effort": -1.0} if fast and target.platform == "tpu" else {}
    arguments = sum(sizes)
    # Data are read a batch at a time.
    used = sum(size for name, size in zip(names, sizes) if not name.startswith("data/"))
    chip = target.chip or measured_chip(devices[0], used)
    buffers = [Buffer(n, "argument", "", size) for n, size in zip(names, sizes)]
    common: dict[str, Any] = {
        "hardware": target.name, "chip": chip, "devices": count, "flops": sum(flops.values()),
        "flops_by_dtype": flops, "batch_size": training.data.batch_size,
        "rules": training.learner.placement.rules.name if training.learner.placement else None,
    }  # fmt: skip
    try:
        compiled = lowered.compile(compiler_options=options or None)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        needed = exhausted(str(error))
        if needed is None:
            raise
        # Where the temporary arrays alone are too many, it does not count the arguments.
        temporary = needed if "temporaries" in str(error) else max(0, needed - arguments)
        memory = Memory(arguments, temporary, 0, arguments + temporary)
        return Plan(
            **common, memory=memory, buffers=largest(buffers), moved=None, messages=(),
            seconds=time.perf_counter() - began,
        )  # fmt: skip
    stats = compiled.memory_analysis()
    outputs = max(0, stats.output_size_in_bytes - stats.alias_size_in_bytes)
    program = Program(compiled.as_text())
    buffers += [Buffer(part_of(n), "temporary", s, size) for n, s, size in program.arrays()]
    arguments, temporary = stats.argument_size_in_bytes, stats.temp_size_in_bytes
    return Plan(
        **common,
        memory=Memory(arguments, temporary, outputs, arguments + temporary + outputs),
        buffers=largest(buffers),
        moved=program.moved(),
        messages=tuple(program.messages()),
        seconds=time.perf_counter() - began,
    )


def lower(training: Training, device: Any) -> tuple[Any, list[str], list[int]]:
    """Lowers the program that trains, for a device or its mesh.

    Returns:
      The lowered program, the names of its large arguments, and the bytes a device of each.
    """
    placement, members = training.layout.placement, training.layout.members
    if placement is not None:
        trial = training.whole_shapes()
        data = traced(training.data, trial.order, placement)
    else:
        single = SingleDeviceSharding(device)
        trial = jax.eval_shape(training.whole) if members is None else training.shapes(members)
        trial, data = placed((trial, traced(training.data, trial.order)), single)
    # What no step changes is an argument of its own.
    fixed = training.fixed if members is None else ()
    rest, constants = split(trial.state, fixed)
    arguments = rest, trial.window, data
    if training.form == "stepped":
        lowered = stepped.lower(training.learner, *arguments, constants)
    else:
        status = trial.status if training._can_stop else None
        arguments = (*arguments, status, np.int32(0), constants)
        lowered = looped.lower(training.learner, members, *arguments)
    arrays = {"state": trial.state, "window": trial.window, "data": getattr(data, "arrays", data)}
    leaves = named_leaves(arrays)
    names = [name.removeprefix("state/") for name in leaves]
    return lowered, names, [*map(_own, leaves.values())]


def placed(tree: Any, sharding: Any) -> Any:
    """Returns the shapes of arrays, as arrays that are placed so."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _own(leaf: Any) -> int:
    """Returns the bytes of an array on a device."""
    sharding = getattr(leaf, "sharding", None)
    shape = leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)
    return int(np.prod(shape, dtype=np.int64)) * getattr(leaf.dtype, "itemsize", 4)


def products_by_dtype(program: Any) -> dict[str, int]:
    """Counts the products of a step by the dtype of their numbers."""
    counts: dict[str, int] = {}
    for equation, times in operations(program.jaxpr):
        if number := times * products_of(equation):
            dtype = max((v.aval.dtype for v in equation.invars[:2]), key=lambda d: d.itemsize).name
            counts[dtype] = counts.get(dtype, 0) + number
    return counts


def exhausted(message: str) -> int | None:
    """Returns the bytes that a program would take, from what a compiler says of one too large.

    >>> exhausted("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.5G of 15.75G")
    22011707392
    >>> exhausted("Ran out of memory: HLO temporaries (16.36G) exceeds available HBM (15.75G).")
    17566416241
    """
    pattern = r"(?:Used |temporaries \()([\d.]+)([KMGT]?)i?B?\)? (?:of|exceeds)"
    match = re.search(pattern, message)
    if match is None:
        return None
    return round(float(match.group(1)) * 1024 ** ("KMGT".find(match.group(2) or "?") + 1))


def largest(buffers: list[Buffer]) -> tuple[Buffer, ...]:
    """Returns the largest of some buffers, those of one name and shape once."""
    known: dict[tuple[str, str, int], Buffer] = {}
    for each in sorted(buffers, key=lambda each: (-each.bytes, not each.name)):
        known.setdefault((each.name, each.shape, each.bytes), each)
    return tuple([*known.values()][:LARGEST])


def measured_chip(device: Any, working_set: int) -> Chip:
    """Returns what a device that is there can do, as measured for a working set of bytes."""
    half, single, bandwidth = measured_peaks(device, working_set)
    memory = available(device)
    name = f"{device.device_kind}, measured"
    source = "measured on this machine"
    return Chip(name, device.platform, half, single, memory, memory, bandwidth, bandwidth, source)
