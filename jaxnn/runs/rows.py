"""Predictions for the rows of a file, as a table of Python values."""

from pathlib import Path

import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.data import examples
from jaxnn.runs._load import Loaded
from jaxnn.typing import Any


def predictions(loaded: Loaded, file: Path) -> tuple[list[str], list[list[Any]]]:
    """Returns the column names and rows of the predictions for a file.

    Args:
      loaded: a loaded run.
      file: a table that `read_table` can read, if the run was trained on a table; the predictions
        are then decoded by its columns. Otherwise a file that `examples` can read.

    Raises:
      InvalidValue: if the outputs are not a single array.
    """
    if loaded.columns is not None:
        table = loaded.predict(file)
        return list(table.columns), [list(row) for row in table.rows()]
    outputs = loaded.predict(examples(file)["inputs"])
    if not isinstance(outputs, np.ndarray):
        raise InvalidValue(
            "predict",
            "the outputs are more than one array",
            got=f"a {type(outputs).__name__}",
            expected="an array with a row for each row of the file",
            fix="Use jaxnn.load(run).predict(inputs)",
        )
    flat = outputs.reshape(len(outputs), -1)
    return [f"output_{place}" for place in range(flat.shape[1])], flat.tolist()
