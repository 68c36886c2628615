"""Converts the recording of a table: names of columns and classes, and numbers in their units."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn.checks import Explained
from jaxnn.storage import files
from jaxnn.storage.directory import COLUMNS
from jaxnn.storage.recording import Recording
from jaxnn.tables import Columns, Real
from jaxnn.tables.rows import rows_as_text

_SCALED = ("labels", "outputs", "boundary", "truth", "predicted")
_KINDS = ("", "worst/", "best/", "uncertain/")
SCALED = {f"{kind}{name}" for kind in _KINDS for name in _SCALED}


def columns_of(run: Path) -> Columns | None:
    """Returns the columns of the training table of a run, if there is one."""
    try:
        return Columns.from_json(files.read(run / COLUMNS).decode())
    except (OSError, UnicodeError, Explained):
        return None


def in_units(recorded: Recording, columns: Columns | None) -> Recording:
    """Returns a recording with names of classes, labels in their unit, and rows as text.

    Arrays with inputs get the field `rows`, texts `[examples, columns]`. Without columns, the
    recording is returned unchanged.
    """
    if columns is None:
        return recorded
    label = columns.labels[0] if len(columns.labels) == 1 else None
    about = recorded.about
    if label is not None:
        about = {**about, "label": label.name}
    if label is not None and columns.task == "classification":
        about["names"] = list(label.labels)
    scale = label.scale if isinstance(label, Real) and about.get("kind") == "regression" else None

    def read(arrays: Mapping[str, Any]) -> dict[str, Any]:
        known = {n: scale.decode(x) if scale and n in SCALED else x for n, x in arrays.items()}
        return known | _rows(columns, arrays)

    frames = [frame._replace(arrays=read(frame.arrays)) for frame in recorded.frames]
    return recorded._replace(
        about=about, frames=frames, probe=read(recorded.probe), end=read(recorded.end)
    )


def _rows(columns: Columns, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the inputs in some arrays as rows of text."""
    texts = {}
    for kind in _KINDS:
        tree = {name: arrays.get(f"{kind}inputs/{name}") for name in ("numbers", "categories")}
        inputs = arrays.get(f"{kind}inputs")
        if inputs is None and all(x is not None for x in tree.values()):
            inputs = tree
        if inputs is not None:
            try:
                texts[f"{kind}rows"] = np.array(rows_as_text(columns, inputs), str)
            except (ValueError, IndexError, TypeError, KeyError):  # it belongs to another table
                continue
    return texts
