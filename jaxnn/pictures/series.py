"""Converts the rows of a run to series of metrics over training steps, for one or more members.

>>> rows = [{"step": 1, "test/loss": 2.0}, {"step": 2, "test/loss": None}]
>>> loss = series("curves", rows)["test/loss"]
>>> loss.steps.tolist(), loss.values.tolist()
([1.0, 2.0], [[2.0], [nan]])
"""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.pictures.scheme import MARK, Axes
from jaxnn.typing import Any, Float

POINTS = 400  # the largest number of points of a line; more would not be visible
ABOUT = ("step", "epoch", "seconds", "running")  # the columns that are not metrics


class Series(NamedTuple):
    """A metric over training steps, NaN where it is not finite; a single run is one member."""

    steps: Float[np.ndarray, "rows"]
    values: Float[np.ndarray, "rows members"]


def series(where: str, rows: Any) -> dict[str, Series]:
    """Returns the metrics of `metrics.jsonl`, each with the rows that have it.

    Raises:
      InvalidType: if `rows` has the wrong type.
      InvalidValue: if there are no rows, or no row has both a step and a metric.
    """
    if isinstance(rows, str | Mapping) or not all(isinstance(row, Mapping) for row in rows):
        raise InvalidType(
            where,
            "the rows have the wrong type",
            got=f"a {type(rows).__name__}",
            expected="a list of dicts, as run.history is",
            fix="Pass run.history, or the lines of metrics.jsonl through json.loads",
        )
    points_of: dict[str, list[tuple[float, list[float]]]] = {}
    for row in rows:
        for name, value in row.items():
            numbers = _numbers(value) if name not in ABOUT else None
            if numbers is not None and "step" in row:
                points_of.setdefault(name, []).append((float(row["step"]), numbers))
    if not points_of:
        raise InvalidValue(
            where,
            "there is nothing to draw",
            got=f"rows with {', '.join(map(str, rows[0])) or 'nothing'}" if rows else "no rows",
            expected="rows with a step and at least one metric",
            fix="Let the run report some: fit(..., every='5%')",
        )
    of_metric = {}
    for name, points in points_of.items():
        steps, members = zip(*sorted(points, key=lambda point: point[0]))
        values = np.array([*itertools.zip_longest(*members, fillvalue=np.nan)]).T
        of_metric[name] = Series(np.array(steps), np.where(np.isfinite(values), values, np.nan))
    return of_metric


def _numbers(value: Any) -> list[float] | None:
    """Returns the values of an entry as a list with one number per member; `None` for text."""
    many = value if isinstance(value, list | tuple | np.ndarray) else [value]
    try:
        return [np.nan if number is None else float(number) for number in many] or None
    except (TypeError, ValueError):
        return None


def thin(*columns: Float[np.ndarray, "rows"]) -> np.ndarray:
    """Returns the indices of about `POINTS` rows, including all peaks, valleys, gaps and ends.

    The rows are split into equal stretches. For each stretch and column, the rows with the highest
    and the lowest value and the first row that is not finite remain.
    """
    count = len(columns[0])
    if count <= POINTS:
        return np.arange(count)
    stretches = max(1, POINTS // (2 * len(columns) + 1))
    places = {0, count - 1}
    for stretch in np.array_split(np.arange(count), stretches):
        for column in columns:
            part = column[stretch]
            lost = np.isnan(part)
            if lost.any():
                places.add(int(stretch[lost.argmax()]))
            if not lost.all():
                places |= {int(stretch[np.nanargmin(part)]), int(stretch[np.nanargmax(part)])}
    return np.array(sorted(places))


def mark_gaps(axes: Axes, steps: np.ndarray, lost: Any) -> None:
    """Marks each range of values that are not finite with a cross and a bar on the x axis."""
    changes = np.flatnonzero(np.diff([False, *lost, False]))
    down = {"transform": axes.get_xaxis_transform(), "clip_on": False, "color": MARK}
    cross = {"markersize": 4.5, "markeredgewidth": 1.2, "zorder": 4, "gid": "not finite"}
    for begin, end in zip(changes[::2], changes[1::2] - 1):
        bar = steps[[begin, end]]
        axes.plot(bar, [0, 0], linewidth=1.4, solid_capstyle="butt", zorder=3, **down)
        axes.plot(steps[begin], 0, "x", **cross, **down)
