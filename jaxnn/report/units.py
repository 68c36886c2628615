"""A recording of the rows of a table: names of classes and columns, and numbers in their units."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnn.storage import json_files
from jaxnn.storage.directory import COLUMNS
from jaxnn.storage.recording import Recording

SCALED = ("labels", "outputs", "boundary", "truth", "predicted")


def in_units(recorded: Recording, run: Path) -> Recording:
    """Returns a recording with the names of the labels' classes, or with labels in their unit.

    A run that was not trained on a table has its recording as it is.
    """
    try:
        columns = json_files.read(run / COLUMNS) if (run / COLUMNS).exists() else {}
        inputs, labels = _inputs(columns.get("inputs", [])), columns.get("labels", [])
    except (json_files.CorruptFile, KeyError, TypeError, AttributeError):
        return recorded
    recorded = recorded._replace(about={**recorded.about, "columns": inputs})
    label = labels[0] if isinstance(labels, list) and len(labels) == 1 else {}
    names, scale = label.get("values"), label.get("scale") or {}
    if isinstance(names, list):
        return recorded._replace(about={**recorded.about, "names": [str(name) for name in names]})
    mean, deviation = (json_files.finite(scale.get(name)) for name in ("mean", "deviation"))
    if recorded.about.get("kind") != "regression" or mean is None or deviation is None:
        return recorded

    def unscaled(arrays: Mapping[str, Any]) -> dict[str, Any]:
        return {n: x * deviation + mean if n in SCALED else x for n, x in arrays.items()}

    frames = [frame._replace(arrays=unscaled(frame.arrays)) for frame in recorded.frames]
    return recorded._replace(
        frames=frames, probe=unscaled(recorded.probe), end=unscaled(recorded.end)
    )


def _inputs(columns: Any) -> list[tuple[str, float, float]] | None:
    """Returns name, mean and deviation of each input; `None` unless all are plain numbers."""
    known = []
    for column in columns:
        if column["kind"] == "ignored":
            continue
        scale = column.get("scale") or {}
        mean, deviation = (json_files.finite(scale.get(n)) for n in ("mean", "deviation"))
        if column["kind"] != "number" or mean is None or deviation is None:
            return None
        known.append((str(column["name"]), mean, deviation))
    return known
