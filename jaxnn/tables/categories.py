"""Encodes categorical columns as indices, or one-hot.

The results equal scikit-learn's `OrdinalEncoder` and `OneHotEncoder(handle_unknown="ignore")`.

>>> import polars
>>> cities = Category.fit(polars.Series("city", ["Ulm", "Bonn", "Ulm"]))
>>> codes = polars.select(cities.indices(polars.Series(["Ulm", "Jena", None])))
>>> cities.values, codes.to_series().to_list()
(('Bonn', 'Ulm'), [1, 2, 2])
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxnn.checks import InvalidType
from jaxnn.tables.kinds import Encoded, as_dates
from jaxnn.typing import Any

_LONG = ("UInt64", "Int128", "UInt128")  # integers that need not fit 64 bits with a sign


@dataclass(frozen=True)
class Category:
    """A categorical column, encoded as indices from 0 in sorted order, or one-hot.

    Values that are not in the training rows have the index after the known ones; one-hot, they are
    encoded as zeros.

    Attributes:
      name: the name of the column.
      values: the sorted categories, followed by `None` if values are missing in the training rows.
      dtype: the type of the values: `"text"`, `"date"` (as text), `"whole"` (integers), `"real"` or
        `"boolean"`.
      one_hot: whether the column is encoded one-hot.
      missing: the number of missing values in the training rows.
      counts: the number of training rows of each category.
    """

    kind: ClassVar[str] = "category"
    name: str
    values: tuple[str | int | float | bool | None, ...]
    dtype: str
    one_hot: bool
    missing: int
    counts: tuple[int, ...]

    @classmethod
    def fit(cls, column: Any, one_hot: bool = False) -> "Category":
        """Fits the encoding on the training rows of a column."""
        dtype = category_dtype(column)
        counted = _cast(column, dtype).rename("value").value_counts().sort("value", nulls_last=True)
        values, counts = tuple(counted["value"].to_list()), tuple(counted["count"].to_list())
        return cls(column.name, values, dtype, one_hot, column.null_count(), counts)

    @property
    def size(self) -> int:
        """The number of indices: one for each category, and one for unknown values."""
        return len(self.values) + 1

    def indices(self, column: Any) -> Any:
        """Returns the index of each row, an int32 polars expression."""
        import polars

        own, unknown = _cast(column, self.dtype), len(self.values)
        known = [value for value in self.values if value is not None]
        if self.dtype == "whole":  # keys of 64 bits without a sign, and longer ones
            longer = any(abs(int(value)) >= 2**63 for value in known) or own.dtype == polars.Int128
            own = own.cast(polars.Int128 if longer else polars.Int64)
        if self.dtype == "text" and column.dtype.is_float():  # as pandas reads 1, 2 and a gap
            whole = column.cast(polars.Int64, strict=False)
            fraction = (whole != column).fill_null(True)
            own = own.zip_with(own.is_in(known) | fraction, whole.cast(polars.String))
        known, values = polars.Series(known, dtype=own.dtype), polars.lit(own)
        numbers = polars.int_range(len(known), dtype=polars.Int32, eager=True)
        codes = values.replace_strict(known, numbers, default=unknown, return_dtype=polars.Int32)
        if not column.null_count():
            return codes
        # Values that cannot be cast are unknown, not missing.
        absent = polars.lit(unknown - (None in self.values), polars.Int32)
        return polars.when(polars.lit(column).is_null()).then(absent).otherwise(codes)

    def encode(self, column: Any) -> Encoded:
        """Returns the one-hot encoding, `(columns, [])`, with one column per category."""
        import polars

        codes = polars.lit(polars.select(self.indices(column)).to_series())
        return [(codes == i).cast(polars.Float32) for i in range(len(self.values))], []

    @property
    def names(self) -> tuple[list[str], list[str]]:
        """The names of the one-hot columns."""
        return [f"{self.name} = {value}" for value in self.labels], []

    @property
    def labels(self) -> list[str]:
        """The categories as text."""
        return ["missing" if value is None else str(value) for value in self.values]

    @property
    def words(self) -> str:
        """A description of the encoding."""
        how = "one-hot" if self.one_hot else f"index of {self.size}, the last for unknown"
        return how + ("; missing is a category" if self.missing else "")


def category_dtype(column: Any) -> str:
    """Returns the type of the values of a categorical column; see `Category.dtype`."""
    import polars

    dtype = column.dtype
    if dtype == polars.Boolean:
        return "boolean"
    if dtype.is_integer():
        return "whole"
    if dtype.is_numeric():
        return "real"
    if dtype in (polars.Date, polars.Datetime):
        return "date"
    if dtype.is_temporal() or dtype in (
        polars.String,
        polars.Categorical,
        polars.Enum,
        polars.Null,
    ):
        return "text"
    raise InvalidType(
        "fit_columns",
        f"column {column.name!r} cannot be encoded",
        got=f"a column of {dtype}",
        expected="numbers, text, booleans or dates",
        fix=f"Ignore it: ignore=[{column.name!r}]",
    )


def _cast(column: Any, dtype: str) -> Any:
    """Casts a column to the type of the categories; values that cannot be cast become null."""
    import polars

    if dtype == "text":
        return column.cast(polars.String)
    if dtype == "date":  # a file may contain the same time in another form
        times = as_dates(column).cast(polars.Datetime("us"))
        return times.dt.to_string("%Y-%m-%d %H:%M:%S%.f").str.strip_suffix(" 00:00:00")
    if dtype == "boolean" and column.dtype == polars.String:
        words = column.str.to_lowercase()
        return (words == "true").set(~words.is_in(["true", "false"]).fill_null(False), None)
    signed = polars.Int128 if str(column.dtype) in _LONG else polars.Int64
    target = {"whole": signed, "real": polars.Float64, "boolean": polars.Boolean}[dtype]
    if column.dtype == polars.Boolean and dtype == "whole":
        return column.cast(polars.Int64)
    cast = column.cast(target, strict=False)
    if column.dtype.is_numeric():  # 1.5 is not the category 1, and 2 is not true
        same = cast.cast(column.dtype, strict=False) == column
        cast = cast.set(~same.fill_null(True), None)
    return cast
