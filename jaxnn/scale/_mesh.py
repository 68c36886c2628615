"""Meshes: devices arranged along two named axes.

>>> dict(mesh(1).shape)
{'data': 1, 'model': 1}
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from jaxnn.checks import InvalidValue, positive_integer
from jaxnn.typing import Any

DATA, MODEL = "data", "model"


def mesh(data: int = -1, model: int = 1, *, devices: Sequence[Any] | None = None) -> Mesh:
    """Returns a mesh that splits a batch along the axis `data`, and wide layers along `model`.

    Both axes have the type `Auto`: XLA partitions the program, and networks need no changes. With
    several slices of devices, whose connections are slow, the devices along `model` belong to one
    slice, and the slices are arranged along `data`.

    Args:
      data: the number of devices that share a batch; -1 uses all devices.
      model: the number of devices that share each parameter that the rules split along `model`.
      devices: the devices; by default those of all processes. The last ones may remain unused,
        unless the devices belong to several processes.

    Raises:
      InvalidValue: if `data * model` does not divide the number of devices.
    """
    available = list(jax.devices() if devices is None else devices)
    count = len(available)
    positive_integer("mesh", "model", model)
    if data != -1:
        positive_integer("mesh", "data", data)
    wanted = count // model if data == -1 else data
    one_process = len({device.process_index for device in available}) == 1
    if not wanted or count % (wanted * model) or (wanted * model != count and not one_process):
        raise InvalidValue(
            "mesh",
            "the mesh does not divide the devices",
            got=f"data={data} and model={model} for {count} devices",
            expected=f"numbers whose product divides {count}"
            if one_process
            else f"numbers whose product is {count}, as every process takes part",
            fix=_nearest(wanted, model, count, data == -1),
        )
    return Mesh(
        _arranged(available[: wanted * model], wanted, model),
        (DATA, MODEL),
        axis_types=(AxisType.Auto,) * 2,
    )


def _nearest(data: int, model: int, count: int, open_data: bool) -> str:
    """Returns the fix: the nearest numbers that divide the devices."""
    models = divisors(count) if open_data or model > count else [model]
    model = min(models, key=lambda number: (count % number > 0, abs(number - model)))
    if open_data or count % model:
        fits = nearest(model, divisors(count))
        return f"Pass {' or '.join(f'model={number}' for number in fits)}"
    fits = nearest(data, divisors(count // model))
    return f"Pass {' or '.join(f'data={number}' for number in fits)}"


def divisors(number: int) -> list[int]:
    """Returns the numbers that divide a number."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def nearest(number: int, choices: Sequence[int]) -> list[int]:
    """Returns the nearest choice at or below a number, and the nearest above, where they exist."""
    below = [choice for choice in choices if choice <= number]
    above = [choice for choice in choices if choice > number]
    return [*below[-1:], *above[:1]]


def _arranged(devices: list[Any], data: int, model: int) -> np.ndarray:
    """Returns the devices `[data, model]`, near each other where they exchange most."""
    from jax.experimental import mesh_utils

    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices > 1 and data % slices == 0:
        return mesh_utils.create_hybrid_device_mesh(
            (data // slices, model), (slices, 1), devices=devices
        )
    return mesh_utils.create_device_mesh((data, model), devices=devices)
