"""Plans: compiles the actual training step for some hardware, and analyses the program.

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
from jaxnn.scale.memory import available, output_bytes, temporary_bytes
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
    """Compiles the training step for some hardware, without running it.

    The hardware need not be present: compilers for TPUs and GPUs run on any machine.

    Args:
      learner: the learner, without a mesh.
      data: the training data, or one batch, `{"inputs": ..., "labels": ...}`, of arrays or
        `jax.ShapeDtypeStruct`s. With a batch, the memory of the data is only that of the batch.
      hardware: a name such as `"v5e-1"`, `"v6e-8"`, `"v5e:4x4"`, `"a100x8"` or `"h100"`, or
        `"cpu"` or `"here"` for this machine, whose peak rates are measured.
      rules: the sharding rules of the parameters, such as `jaxnn.scale.fsdp`. By default they are
        replicated.
      model: the number of devices along the `model` axis of the mesh, for `tensor` rules.
      hparams: the hyper-parameters; for a population, arrays with one value per member.
      key: the PRNG key; for a population, an array with one key per member.
      start: the initial parameters and state, as in `train`.
      fast: whether to reduce the effort of the TPU compiler. It then takes a fraction of the time,
        and the program needs more memory.

    Returns:
      A `Plan`. If the program does not fit, `Plan.fits` is false; this is not an error.

    Raises:
      InvalidValue: if the hardware is unknown, or an argument is invalid.
      NoCompiler: if the compiler for the hardware is not installed.
    """
    target = read_name(hardware)
    devices = devices_of(target)
    data = as_data(data)
    if learner.placement is not None:
        raise InvalidValue(
            "plan", "the learner already has a mesh", got="a learner that shard returned",
            expected="a learner without a mesh",
            fix="Pass the original learner, and rules=jaxnn.scale.fsdp",
        )  # fmt: skip
    key = jax.random.key(0) if key is None else key
    if target.devices > 1:
        mesh = mesh_of(-1, model, devices=devices)
        learner = shard(learner, mesh, replicated if rules is None else rules)
    training = train(learner, data, steps=1_000_000, key=key, hparams=hparams, start=start)
    return plan_of(training, target, devices, fast=fast)


def as_data(data: Any) -> Data:
    """Returns data unchanged, and a batch as a dataset of one batch, with zeros for shapes."""
    if not isinstance(data, Mapping):
        return data
    leaves = jax.tree.leaves(data)
    if not leaves or not all(getattr(leaf, "shape", ()) for leaf in leaves):
        raise InvalidType(
            "plan", "the batch has no examples", got=f"a batch with the fields {', '.join(data)}",
            expected="arrays or jax.ShapeDtypeStructs of shape [examples, ...]",
            fix="Pass {'inputs': inputs, 'labels': labels}",
        )  # fmt: skip
    arrays = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x, data
    )
    return resident(arrays, batch_size=leaves[0].shape[0])


def plan_of(
    training: Training, target: Hardware, devices: list[Any], *, fast: bool = False
) -> Plan:
    """Returns the plan of a `Training`; for several devices, its learner has a mesh of them."""
    began = time.perf_counter()
    form = best_form(training.program, devices[0].platform)
    lowered, names, sizes = lower(replace(training, form=form), devices[0])
    count, members = target.devices, training.layout.members or 1
    flops = {
        dtype: 2 * number * members for dtype, number in products_by_dtype(training.program).items()
    }
    options = {"exec_time_optimization_effort": -1.0} if fast and target.platform == "tpu" else {}
    arguments = sum(sizes)
    # The working set excludes the data, of which a step reads only one batch.
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
        # If the temporary arrays alone do not fit, the compiler does not count the arguments.
        temporary = needed if "temporaries" in str(error) else max(0, needed - arguments)
        memory = Memory(arguments, temporary, 0, arguments + temporary)
        return Plan(
            **common, memory=memory, buffers=largest(buffers), moved=None, messages=(),
            seconds=time.perf_counter() - began,
        )  # fmt: skip
    stats = compiled.memory_analysis()
    program = Program(compiled.as_text())
    buffers += [Buffer(part_of(n), "temporary", s, size) for n, s, size in program.arrays()]
    arguments, outputs = stats.argument_size_in_bytes, output_bytes(stats)
    temporary = temporary_bytes(stats, target.platform)
    return Plan(
        **common,
        memory=Memory(arguments, temporary, outputs, arguments + temporary + outputs),
        buffers=largest(buffers),
        moved=program.moved(),
        messages=tuple(program.messages()),
        seconds=time.perf_counter() - began,
    )


def lower(training: Training, device: Any) -> tuple[Any, list[str], list[int]]:
    """Lowers the training program for a device, or for the learner's mesh.

    Returns:
      The lowered program, the names of its arguments, and the bytes of each per device.
    """
    placement, members = training.layout.placement, training.layout.members
    if placement is not None:
        trial = training.whole_shapes()
        data = traced(training.data, trial.order, placement)
    else:
        single = SingleDeviceSharding(device)
        trial = jax.eval_shape(training.whole) if members is None else training.shapes(members)
        trial, data = placed((trial, traced(training.data, trial.order)), single)
    # Arrays that no step changes are a separate argument.
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
    """Returns the shapes and dtypes of arrays, with a sharding."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _own(leaf: Any) -> int:
    """Returns the bytes of an array on each device."""
    sharding = getattr(leaf, "sharding", None)
    shape = leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)
    return int(np.prod(shape, dtype=np.int64)) * getattr(leaf.dtype, "itemsize", 4)


def products_by_dtype(program: Any) -> dict[str, int]:
    """Counts the scalar products of a step by the dtype of the operands."""
    counts: dict[str, int] = {}
    for equation, times in operations(program.jaxpr):
        if number := times * products_of(equation):
            dtype = max((v.aval.dtype for v in equation.invars[:2]), key=lambda d: d.itemsize).name
            counts[dtype] = counts.get(dtype, 0) + number
    return counts


def exhausted(message: str) -> int | None:
    """Parses a compiler's out-of-memory message; returns the bytes needed, `None` if unknown.

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
    """Returns the largest buffers in decreasing order, without duplicates."""
    known: dict[tuple[str, str, int], Buffer] = {}
    for each in sorted(buffers, key=lambda each: (-each.bytes, not each.name)):
        known.setdefault((each.name, each.shape, each.bytes), each)
    return tuple([*known.values()][:LARGEST])


def measured_chip(device: Any, working_set: int) -> Chip:
    """Measures the peak rates of a device of this machine, for a working set in bytes."""
    half, single, bandwidth = measured_peaks(device, working_set)
    memory = available(device)
    name = f"{device.device_kind}, measured"
    source = "measured on this machine"
    return Chip(name, device.platform, half, single, memory, memory, bandwidth, bandwidth, source)
