"""Decodes encoded rows of a table into text, to show examples in a report.

>>> from jaxnn.tables import fit_columns
>>> table = {"size": [1.0, None, 3.0], "city": ["Ulm", "Bonn", "Ulm"]}
>>> columns = fit_columns(table)
>>> rows_as_text(columns, columns.encode(table)["inputs"])
[['size 1', 'city Ulm'], ['size missing', 'city Bonn'], ['size 3', 'city Ulm']]
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnn.tables._columns import Columns
from jaxnn.tables.categories import Category
from jaxnn.tables.kinds import OF_TIMES, Date, Ignored


def rows_as_text(columns: Columns, inputs: Any) -> list[list[str]]:
    """Returns a list of `"name value"` texts for each row, one for each encoded column.

    Args:
      columns: the columns that encoded the rows.
      inputs: the inputs from `Columns.encode`, an array or a dict of `numbers` and `categories`.
    """
    tree = isinstance(inputs, Mapping)
    numbers = np.asarray(inputs["numbers"] if tree else inputs, np.float64)
    codes = np.asarray(inputs["categories"]) if tree else np.zeros((len(numbers), 0), int)
    features = dict(zip(columns.features, numbers.T, strict=True))
    indices = iter(codes.T)
    texts = []
    for column in columns.inputs:
        if isinstance(column, Ignored):
            continue
        if isinstance(column, Category):
            values = _names(column, features, None if column.one_hot else next(indices))
        else:
            values = _amounts(column, [features[name] for name in column.names[0]])
        gone = features.get(f"{column.name} is missing", np.zeros(len(numbers)))
        shown = ["missing" if lost else value for lost, value in zip(gone, values)]
        texts.append([f"{column.name} {value}" for value in shown])
    return [list(row) for row in zip(*texts)]


def _names(column: Category, features: Mapping[str, np.ndarray], codes: Any) -> list[str]:
    if codes is None:
        marks = np.stack([features[name] for name in column.names[0]], 1)
        codes = np.where(marks.any(1), marks.argmax(1), len(column.values))
    names = [*column.labels, "unknown"]
    return [names[code] for code in codes]


def _amounts(column: Any, encoded: list[np.ndarray]) -> list[str]:
    if not isinstance(column, Date):
        # Rounds off the float32 error, which is far below the standard deviation of the column.
        unit = 10.0 ** (np.floor(np.log10(column.scale.deviation)) - 5)
        rounded = np.round(column.scale.decode(encoded[0]) / unit) * unit
        return [f"{value + 0.0:.6g}" for value in rounded]
    decoded = [scale.decode(x) for scale, x in zip(column.scales, encoded)]
    if column.parts[0] != "time":
        return [", ".join(f"{value:.4g}" for value in row) for row in zip(*decoded)]
    unit = "m" if set(column.parts) & set(OF_TIMES) else "D"
    half = {"m": 30, "D": 43200}[unit]  # to the nearest
    stamps = (decoded[0] + half).astype("datetime64[s]").astype(f"datetime64[{unit}]")
    return [str(stamp).replace("T", " ") for stamp in stamps]
