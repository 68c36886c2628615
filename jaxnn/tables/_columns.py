"""The encoding of the columns of a table, fitted on the training rows and saved with a run.

>>> from jaxnn.tables import fit_columns
>>> table = {"size": [1.0, 2.0, 3.0], "city": ["Ulm", "Bonn", "Ulm"], "dear": ["no", "no", "yes"]}
>>> columns = fit_columns(table, labels="dear")
>>> columns
column  kind      encoding                                missing  classes
size    number    standardized: mean 2, deviation 0.8165        0
city    category  index of 3, the last for unknown              0  2: Bonn, Ulm
dear    labels    numbered for classification                   0  2: no, yes
>>> columns.encode(table)["labels"].tolist()
[0, 0, 1]
>>> columns.decode([[2.0, 1.0]]).columns
['dear', 'probability of no', 'probability of yes']
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxnn import display, formatting
from jaxnn.checks import InvalidValue
from jaxnn.data.aligned import aligned, fix
from jaxnn.models import tabular
from jaxnn.network import Network
from jaxnn.objectives import Objective
from jaxnn.reading._read_table import read_like
from jaxnn.reading.options import Reading
from jaxnn.tables.categories import Category
from jaxnn.tables.kinds import Date, Ignored, Real, Scale, evaluate, numbers
from jaxnn.tables.predictions import decoded, num_outputs, objective_of
from jaxnn.typing import Any

_KINDS = {kind.kind: kind for kind in (Real, Date, Category, Ignored)}
_ROWS = 1 << 16
_HEADS = ("column", "kind", "encoding", "missing", "classes")


class Examples(dict):
    """Arrays for training, by field, with the `columns` that encoded them.

    Attributes:
      columns: the `Columns` that encoded the arrays, which decode predictions too.
    """

    def __init__(self, arrays: Mapping[str, Any], columns: "Columns"):
        super().__init__(arrays)
        self.columns = columns


@dataclass(frozen=True)
class Columns:
    """The encoding of the columns of a table, as returned by `fit_columns`.

    Attributes:
      inputs: the encodings of the input columns, in order.
      labels: the encodings of the label columns.
      task: `"classification"`, `"regression"` or `"multi_label"`; `None` without labels.
      weights: the name of the column of row weights, or `None`.
      rows: the number of training rows.
      reading: the options of the text file that the table came from, also used for later files.
    """

    inputs: tuple[Any, ...]  # Real, Date, Category or Ignored
    labels: tuple[Any, ...]  # Real, or Category for classes
    task: str | None
    weights: str | None
    rows: int
    reading: Reading | None = None

    def encode(self, rows: Any, *, labels: bool | None = None, balanced: bool = False) -> Examples:
        """Encodes rows as arrays for training or prediction.

        Args:
          rows: a source that `read_table` accepts, with the same columns as the training rows;
            other columns are ignored. A text file is read with the options of the training file.
          labels: whether to encode the labels. By default they are encoded if the rows have them.
          balanced: whether to weight each row by `n / (classes * rows of its class)`, with the
            counts of the training rows. Use it for training, not for evaluation.

        Returns:
          A dict of arrays. `inputs` is float32 `[n, features]`, or, if some categories are
          embedded, a dict of `numbers`, float32 `[n, features]`, and `categories`, int32
          `[n, columns]`; it is read-only, so that `resident` can share its memory. `labels` are
          class numbers, int32 `[n]`; standardized numbers, float32 `[n]` or `[n, columns]`; or 0
          and 1 for multi-label tasks, float32 `[n, columns]`. `weights` is float32 `[n]`, if there
          is a column of weights or `balanced` is true.

        Raises:
          InvalidValue: if a column is missing, a label is missing or unknown, a weight is negative
            or missing, or a number cannot be encoded.
          InvalidType: if the type of a column differs from the training rows.
        """
        table = self._table(rows)
        names = [label.name for label in self.labels]
        present = bool(names) and set(names) <= set(table.columns)
        labels = present if labels is None else labels
        used = [column for column in self.inputs if not isinstance(column, Ignored)]
        self._check_present(table, [c.name for c in used] + (names if labels else []))
        arrays: dict[str, Any] = {"inputs": self._inputs(table, used)}
        if labels:
            arrays["labels"] = self._labels(table)
        weights = self._weights(table) if self.weights in table.columns else None
        if balanced:
            self._check_balanced(labels)
            counts = np.asarray(self.labels[0].counts, np.float64)
            factors = counts.sum() / (len(counts) * counts)
            weights = factors[arrays["labels"]] * (1.0 if weights is None else weights)
        if weights is not None:
            arrays["weights"] = weights.astype(np.float32)
        return Examples(arrays, self)

    def decode(self, outputs: Any) -> Any:
        """Decodes the outputs of a network into a polars `DataFrame` with one row per output.

        Args:
          outputs: logits `[n, classes]`, numbers `[n]` or `[n, columns]`, or, for multi-label
            tasks, logits `[n, columns]`.

        Returns:
          A data frame with a column for each label. For classification, it contains the name of
          the predicted class, and a column with the probability of each class follows. For
          regression, it contains numbers in the units of the label. For multi-label tasks, it
          contains booleans, and a column of probabilities follows.

        Raises:
          InvalidValue: if the shape of the outputs does not match the labels.
        """
        return decoded(self.labels, self.task, outputs)

    def network(self, hidden: Sequence[int] = (64, 64), **options: Any) -> Network:
        """Returns `jaxnn.models.tabular` for these columns: an MLP with embedded categories.

        Args:
          hidden: the number of nodes in each hidden layer.
          options: other arguments of `jaxnn.models.tabular`.
        """
        return tabular(self.sizes, hidden, self.outputs, **options)

    def objective(self) -> Objective:
        """Returns the objective for the labels; it reports errors in the units of the labels."""
        return objective_of(self.labels, self.task)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of indices of each embedded category."""
        return tuple(column.size for column in self.inputs if _is_index(column))

    @property
    def outputs(self) -> int:
        """The number of outputs of a network for the labels."""
        return num_outputs(self.labels, self.task)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the numeric inputs, followed by the indicators of missing values."""
        pairs = [c.names for c in self.inputs if not (isinstance(c, Ignored) or _is_index(c))]
        return tuple(name for place in (0, 1) for pair in pairs for name in pair[place])

    def to_json(self) -> str:
        """Returns the columns as JSON text, the inverse of `from_json`."""
        parts = {
            place: [{"kind": c.kind, **dataclasses.asdict(c)} for c in getattr(self, place)]
            for place in ("inputs", "labels")
        }
        rest = {"format": 1, "task": self.task, "weights": self.weights, "rows": self.rows}
        rest["reading"] = None if self.reading is None else self.reading.to_dict()
        return json.dumps({**rest, **parts}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Columns":
        """Returns the columns from the text of `to_json`.

        Raises:
          InvalidValue: if the text has another format.
        """
        try:
            content = json.loads(text)
            if content["format"] != 1:
                raise ValueError(f"format {content['format']}")
            return cls(
                tuple(_from_dict(column) for column in content["inputs"]),
                tuple(_from_dict(column) for column in content["labels"]),
                content["task"],
                content["weights"],
                content["rows"],
                content["reading"] and Reading.from_dict(content["reading"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidValue(
                "from_json",
                "the text does not describe columns",
                got=f"{type(error).__name__}: {error}",
                expected="the text of Columns.to_json, format 1",
                fix="Write it again: columns.to_json()",
            ) from None

    def _table(self, rows: Any) -> Any:
        """Reads rows as a table; text categories stay text even if they look like numbers (007)."""
        texts = [
            column.name
            for column in (*self.inputs, *self.labels)
            if isinstance(column, Category) and column.dtype == "text"
        ]
        return read_like(rows, self.reading, texts, [label.name for label in self.labels])

    def _check_present(self, table: Any, names: Sequence[str]) -> None:
        lacking = [name for name in names if name not in table.columns]
        if lacking:
            raise InvalidValue(
                "encode",
                "columns are missing",
                got=f"columns {', '.join(table.columns)}",
                expected=f"also {', '.join(lacking)}",
                fix="Add them, with None for unknown values",
            )

    def _inputs(self, table: Any, used: Sequence[Any]) -> Any:
        """Encodes the inputs in blocks of rows, to bound the memory for intermediate values."""
        numbers = aligned((table.height, len(self.features)), np.float32)
        indices = aligned((table.height, len(self.sizes)), np.int32)
        for start in range(0, table.height, _ROWS):
            rows = table[start : start + _ROWS]
            values, indicators, codes = [], [], []
            for column in used:
                if _is_index(column):
                    codes.append(column.indices(rows[column.name]))
                else:
                    more, missing = column.encode(rows[column.name])
                    values += more
                    indicators += missing
            for array, columns in ((numbers, values + indicators), (indices, codes)):
                if columns:
                    array[start : start + _ROWS] = evaluate(columns)
        for array in (numbers, indices):
            fix(array)
        return {"numbers": numbers, "categories": indices} if self.sizes else numbers

    def _labels(self, table: Any) -> np.ndarray:
        check_labels(table, [label.name for label in self.labels])
        if self.task == "regression":
            each = [label.encode(table[label.name])[0][0] for label in self.labels]
            array = evaluate(each)
            return array[:, 0] if len(each) == 1 else array
        each = [label.indices(table[label.name]) for label in self.labels]
        marks = evaluate(each)
        for label, codes in zip(self.labels, marks.T):
            if (codes == len(label.values)).any():
                row = int(np.argmax(codes == len(label.values)))
                raise InvalidValue(
                    "encode",
                    f"column {label.name!r} has a label that is not in the training rows",
                    got=f"{table[label.name][row]!r} in row {row} (from 0)",
                    expected="one of " + ", ".join(label.labels),
                    fix="Split the table with stratify=, or pass labels=False",
                )
        return marks[:, 0] if self.task == "classification" else marks.astype(np.float32)

    def _weights(self, table: Any) -> np.ndarray:
        weights = numbers(table[self.weights])
        if not (weights >= 0).all():
            raise InvalidValue(
                "encode",
                f"weights in column {self.weights!r} are negative or missing",
                got=f"{weights[~(weights >= 0)][0]}",
                expected="a weight of at least 0 in every row",
                fix="Correct them; a weight of 0 excludes a row",
            )
        return weights

    def _check_balanced(self, labels: bool) -> None:
        if self.task != "classification" or not labels:
            raise InvalidValue(
                "encode",
                "only classes can be balanced",
                got=f"balanced=True for {self.task if labels else 'rows without labels'}",
                expected="a classification task, and rows with labels",
                fix="Leave out balanced=",
            )

    def __str__(self) -> str:
        return formatting.aligned([_HEADS, *self.described()], "<<<><")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return display.block(display.columns(_HEADS, self.described(), left=3))

    def described(self) -> list[tuple[str, ...]]:
        """Returns the name, kind, encoding, missing values and classes of each column as text."""
        tasks = {"classification": "numbered", "multi_label": "marks", "regression": "standardized"}
        rows = [(c.name, c.kind, c.words, f"{c.missing:,}", _classes(c)) for c in self.inputs]
        for label in self.labels:
            words = label.words if isinstance(label, Real) else tasks[str(self.task)]
            words = f"{words} for {str(self.task).replace('_', ' ')}"
            rows.append((label.name, "labels", words, f"{label.missing:,}", _classes(label)))
        if self.weights:
            rows.append((self.weights, "weights", "as they are", "0", ""))
        return rows


def check_labels(table: Any, names: Sequence[str]) -> None:
    """Raises `InvalidValue` if a row has no label."""
    for name in names:
        gaps = table[name].null_count()
        if gaps:
            raise InvalidValue(
                "encode",
                f"labels are missing in column {name!r}",
                got=f"{gaps} of {table.height} rows without a label",
                expected="a label in every row, for training and evaluation",
                fix=f"Drop those rows, table.drop_nulls({name!r}), or pass labels=False",
            )


def _is_index(column: Any) -> bool:
    return isinstance(column, Category) and not column.one_hot


def _classes(column: Any) -> str:
    if not isinstance(column, Category):
        return ""
    names = column.labels
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)}: {shown}"


def _from_dict(content: dict[str, Any]) -> Any:
    content = dict(content)
    kind = _KINDS[content.pop("kind")]
    if "scale" in content:
        content["scale"] = Scale(**content["scale"])
    if "scales" in content:
        content["scales"] = tuple(Scale(**scale) for scale in content["scales"])
    content = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    return kind(**content)
