"""Validates a population before training: its size, layout, memory and selection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, choice, kind, number, positive_integer
from jaxnn.driver.chunks import Training
from jaxnn.driver.placement import trial_shardings
from jaxnn.driver.trial import Select, Watch
from jaxnn.loop._run import Form
from jaxnn.metrics.metric import Better
from jaxnn.scale.layout import Layout
from jaxnn.scale.memory import available, device_size, size
from jaxnn.scale.placement import Placement
from jaxnn.typing import Any, Hparams


def counted(key: Any, hparams: Hparams) -> tuple[int | None, dict[str, np.ndarray]]:
    """Returns the number of members, and the hyper-parameters broadcast to all members.

    The number is `None` for a single run: neither the key nor a hyper-parameter has an axis.
    """
    dtype = getattr(key, "dtype", np.dtype(object))
    if not jnp.issubdtype(dtype, jax.dtypes.prng_key) or len(key.shape) > 1:
        raise InvalidType(
            "train",
            "key is not a random key",
            got=f"a key of shape {key.shape}" if hasattr(key, "shape") else f"key={key!r}",
            expected="one key, as from jax.random.key, or an array [members] of keys",
            fix="Pass key=jax.random.key(0), with any seed, or key=jaxnn.keys(seeds)",
        )
    given = {name: numbers(name, value) for name, value in hparams.items()}
    counts = {name: value.shape[0] for name, value in given.items() if value.ndim}
    counts |= {"key": key.shape[0]} if key.shape else {}
    if not counts:
        return None, given
    members = next(iter(counts.values()))
    if set(counts.values()) != {members} or members == 0:
        raise InvalidValue(
            "train",
            "key and hyper-parameters have different numbers of members",
            got=", ".join(f"{count} of {name}" for name, count in counts.items()),
            expected="arrays of the same length, at least 1, or single values",
            fix="Pass arrays of one length; sweep(...) returns all combinations of some values",
        )
    return members, {n: np.broadcast_to(value, (members,)) for n, value in given.items()}


def numbers(name: str, value: Any) -> np.ndarray:
    """Returns a hyper-parameter in float32; raises `Invalid` unless float32 can hold it."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise InvalidType(
            "train",
            f"hyper-parameter {name} is not a number",
            got=f"{name}={value!r}",
            expected="a number: hyper-parameters are inputs of the compiled program",
            fix="Use other values outside of the program, when the network is built",
        )
    if array.ndim > 1:
        raise InvalidType(
            "train",
            f"hyper-parameter {name} is neither a number nor an array of one axis",
            got=f"{name} of shape {array.shape}",
            expected="a number, or an array [members]",
            fix="Pass an array of one axis; sweep(...) returns all combinations of some values",
        )
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    # A number outside the range of float32 would become infinity or 0.
    lost = ~np.isfinite(single) | ((single == 0) & (array != 0))
    for figure in array[lost].ravel()[:1]:
        raise InvalidValue(
            "train",
            f"hyper-parameter {name} is out of the range of float32",
            got=f"{name}={float(figure)!r}",
            expected="a finite number",
            fix=f"Pass, say, {name}=0.001",
        )
    # A seed or a count that is rounded would be another one, without a word.
    rounded = (array.dtype.kind in "iu") & (single.astype(np.float64) != array)
    for figure in array[rounded].ravel()[:1]:
        raise InvalidValue(
            "train",
            f"hyper-parameter {name} is an integer that float32 cannot hold",
            got=f"{name}={int(figure)}",
            expected="an integer of at most 16777216, or a float",
            fix=f"Pass {name}={float(figure)!r} if it may be rounded, or use it outside of the"
            " program, when the network is built",
        )
    return single


def bounds(hparams: dict[str, Any]) -> list[dict[str, float]]:
    """Returns the lowest and highest values: if both are valid, so are all values in between."""
    # As typed by the user: 0.3, not 0.30000001192092896.
    least, most = ({n: float(str(f(v))) for n, v in hparams.items()} for f in (np.min, np.max))
    return [least] if least == most else [least, most]


@dataclass(frozen=True)
class Execution:
    """How training steps are compiled, and how members are assigned to devices.

    Attributes:
      form: `"looped"` or `"stepped"`, see `run`. The default is the faster one for the learner and
        the device.
      width: the number of members that train in parallel on a device. With 1, members train one
        after another, and each has the same bits as its single run. The default is 1 on CPU, and
        elsewhere the most that memory holds.
      devices: the devices that share a population; all by default.
    """

    form: Form | None = None
    width: int | None = None
    devices: Sequence[Any] | None = None

    def __post_init__(self):
        choice("Execution", "form", self.form or "looped", get_args(Form))
        if self.width is not None:
            positive_integer("Execution", "width", self.width)


def laid_out(
    members: int | None, execution: Execution, form: Form, placement: Placement | None
) -> Layout:
    """Returns the layout of the members over devices."""
    width, devices = execution.width, execution.devices
    if members is None:
        if width is not None or devices is not None:
            raise InvalidValue(
                "train",
                "one run has no members to lay out",
                got=f"width={width}, devices={devices} and one key",
                expected="neither of them, or a population",
                fix="Pass keys or hyper-parameters with an axis of members: key=jaxnn.keys(seeds)",
            )
        return Layout(placement=placement)
    if placement is not None:
        if (width or 1) > 1 or devices is not None:
            raise InvalidValue(
                "train",
                "members on a mesh train one after another, each on the whole mesh",
                got=f"width={width}, devices={devices} and a mesh of {dict(placement.mesh.shape)}",
                expected="neither of them with a mesh",
                fix="Leave them out, or leave the mesh out for a member on each device",
            )
        return Layout(members, (), 1, placement)
    chosen = tuple(devices if devices is not None else jax.local_devices())[:members]
    if not chosen:
        raise InvalidValue(
            "train", "there is no device", got="devices=()", expected="at least one",
            fix="Leave devices out, or pass jax.local_devices()",
        )  # fmt: skip
    if width not in (None, 1) and form == "stepped":
        raise InvalidValue(
            "train",
            "members cannot train side by side step by step",
            got=f"width={width} and form='stepped'",
            expected="one after another, or the looped form",
            fix="Leave width out, or pass Execution(form='looped')",
        )
    one_by_one = form == "stepped" or chosen[0].platform == "cpu"
    return Layout(members, chosen, width or (1 if one_by_one else members))


def watched(watch: Watch | str | None, directions: Mapping[str, Better | None]) -> Watch | None:
    """Validates a watch against the reported metrics, and returns it with its direction."""
    if watch is None:
        return None
    watch = Watch(watch) if isinstance(watch, str) else watch
    kind("train", "watch", watch, Watch, fix="Pass watch='test/accuracy' or Watch(...)")
    choice("train", "watch", watch.metric, directions)
    choice("train", "better", watch.better or "lower", ("lower", "higher"))
    if watch.patience is not None:
        positive_integer("train", "patience", watch.patience)
    number("train", "margin", watch.margin, low=0.0)
    better = watch.better or directions[watch.metric]
    if better is None:
        raise InvalidValue(
            "train",
            f"nothing says which values of {watch.metric} are good",
            got=f"watch={watch.metric!r}, whose metric has better=None",
            expected="a metric that says it, as all in jaxnn.metrics do, or a Watch that does",
            fix=f"Pass watch=Watch({watch.metric!r}, better='higher') or better='lower', or make"
            " the metric with mean(numbers, weights, better=...)",
        )
    return replace(watch, better=better)


# The attribute of a selection that uses the direction of its metric: `(metric, factory)`.
OPEN = "open_direction"


def directed(select: Select | None, directions: Mapping[str, Better | None]) -> Select | None:
    """Returns the selection, with the direction of its metric if it has no direction."""
    opened: Any = getattr(select, OPEN, (None, None))
    metric, again = opened
    if metric not in directions:
        return select
    if directions[metric] is None:
        raise InvalidValue(
            "train",
            f"nothing says which values of {metric} are good",
            got=f"a selection by {metric!r}, whose metric has better=None",
            expected="a metric that says it, as all in jaxnn.metrics do, or a selection that does",
            fix="Pass lower=True or lower=False to the selection",
        )
    return again(lower=directions[metric] == "lower")


def check_room(training: Training) -> None:
    """Raises `InvalidValue` if the states of all members do not fit into memory."""
    layout, one = training.layout, training.shapes(1)
    # Doubled below, since reordering members copies their states.
    held = size(one)
    if layout.placement is not None:
        held = device_size(one, trial_shardings(layout.placement, one))
    each, have = 2 * held, available(training.devices[0])
    if each * layout.slots // max(1, len(layout.devices)) > have:
        raise InvalidValue(
            "train",
            "the population does not fit into memory",
            got=f"{layout.members} members of {each:,} bytes on {len(layout.devices)} devices",
            expected=f"at most {have // each * len(layout.devices)} members",
            fix="Train them in several populations, or on more devices",
        )


def check_selection(training: Training) -> None:
    """Raises if a selection has no population, or returns trials with another structure."""
    if training.layout.members is None:
        raise InvalidValue(
            "train",
            "a selection needs a population",
            got="one key, and hyper-parameters of one run",
            expected="keys or hyper-parameters with an axis of members",
            fix="Pass key=jaxnn.keys(range(16)), or leave select out",
        )
    trials = training.shapes(training.layout.slots)
    assert training.select is not None
    after = jax.eval_shape(training.select, jax.ShapeDtypeStruct((), training.key.dtype), trials)
    if jax.tree.structure(after) != jax.tree.structure(trials) or after != trials:
        raise InvalidType(
            "train",
            "the selection changes the form of the trials",
            got=f"{type(after).__name__} with other arrays than were given",
            expected="trials of the same structure, shapes and dtypes",
            fix="Return trials._replace(...) from select(key, trials)",
        )
