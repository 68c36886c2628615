"""Encodings of columns that are not categories: numbers, dates and ignored columns.

Each is fitted on the training rows of a column, and then encodes the same column of other rows, as
expressions that polars evaluates in parallel. The results equal scikit-learn's `StandardScaler`
followed by `SimpleImputer(add_indicator=True)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.formatting import brief
from jaxnn.reading.dtypes import typed
from jaxnn.typing import Any, Callable


def _days(column: Any) -> Any:
    """Returns the time of day as a fraction of a day."""
    seconds = column.dt.epoch("s") % 86400
    return seconds / 86400


def _cycle(turns: Any) -> tuple[Any, Any]:
    """Returns the sine and cosine of an angle in turns, so that 23:59 is close to 0:00."""
    return (2 * np.pi * turns).sin(), (2 * np.pi * turns).cos()


# The parts of a date or time, each one or several numbers.
PARTS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "time": lambda column: (column.dt.epoch("us") / 1e6,),  # seconds
    "year": lambda column: (column.dt.year(),),
    "month": lambda column: (column.dt.month(),),
    "day": lambda column: (column.dt.day(),),
    "weekday": lambda column: (column.dt.weekday(),),  # Monday is 1
    "day_of_year": lambda column: (column.dt.ordinal_day(),),
    "hour": lambda column: (column.dt.hour(),),
    "minute": lambda column: (column.dt.minute(),),
    "time_of_day": lambda column: _cycle(_days(column)),
    "time_of_week": lambda column: _cycle((column.dt.weekday() - 1 + _days(column)) / 7),
    "time_of_year": lambda column: _cycle((column.dt.ordinal_day() - 1 + _days(column)) / 365.25),
}
# Of each row of a column, as polars expressions: numbers, and indicators of missing values.
Encoded = tuple[list[Any], list[Any]]
_CYCLES = ("time_of_day", "time_of_week", "time_of_year")
OF_TIMES = ("hour", "minute", "time_of_day")


@dataclass(frozen=True)
class Scale:
    """A standardization, with a replacement for missing numbers.

    Attributes:
      mean: the mean of the training rows.
      deviation: their standard deviation (divided by n, not n - 1); 1 if all are equal.
      fill: the replacement of missing numbers.
    """

    mean: float
    deviation: float
    fill: float

    @classmethod
    def fit(cls, column: Any, fill: str = "mean") -> "Scale":
        """Fits the scale on a column of numbers, some of which may be missing."""
        column = as_numbers(column)
        mean, deviation, low, high = column.mean(), column.std(ddof=0), column.min(), column.max()
        if np.isinf([low, high]).any():
            raise infinite(column)
        if low == high:
            mean, deviation = low, 1.0
        return cls(mean, deviation, mean if fill == "mean" else column.median())

    def encode(self, values: Any) -> Any:
        """Standardizes a polars series or expression in float64, and fills it; float32."""
        import polars

        values = values.cast(polars.Float64).fill_null(self.fill)
        return ((values - self.mean) / self.deviation).cast(polars.Float32)

    def decode(self, values: np.ndarray) -> np.ndarray:
        """Returns standardized numbers in their original unit, in float64."""
        return np.asarray(values, np.float64) * self.deviation + self.mean


@dataclass(frozen=True)
class Real:
    """A column of numbers, standardized, with an indicator if values are missing in training rows.

    Attributes:
      name: the name of the column.
      scale: its standardization.
      missing: the number of missing values in the training rows.
    """

    kind: ClassVar[str] = "number"
    name: str
    scale: Scale
    missing: int

    @classmethod
    def fit(cls, column: Any, fill: str) -> "Real":
        """Fits the encoding on the training rows of a column."""
        real = cls(column.name, Scale.fit(column, fill), column.null_count())
        real._check_exact(column)
        return real

    def encode(self, column: Any) -> Encoded:
        """Returns `([numbers], [indicator])`, without indicator if no training value is missing."""
        import polars

        values = polars.lit(as_finite(column))
        self._check_exact(column)
        return [self.scale.encode(values)], _indicator(self, values)

    def _check_exact(self, column: Any) -> None:
        """Raises `InvalidValue` if two different integers are equal in float32."""
        if not column.dtype.is_integer() or column.null_count() == len(column):
            return
        low, high = column.min(), column.max()
        # A float32 has 24 bits, a float64 53.
        if max(high - self.scale.mean, self.scale.mean - low) < 2**22 and max(-low, high) < 2**52:
            return
        encoded = self.scale.encode(as_numbers(column))
        rounded = np.rint(self.scale.decode(encoded.to_numpy()))
        back = type(column)(column.name, rounded).cast(column.dtype, strict=False)
        wrong = ((back != column).fill_null(True)) & column.is_not_null()
        if wrong.any():
            raise InvalidValue(
                "fit_columns",
                f"column {self.name!r} has integers that float32 cannot distinguish",
                got=f"{column.filter(wrong)[0]}, in a column from {low} to {high}",
                expected="integers that span at most 24 bits",
                fix=f"Ignore it, ignore=[{self.name!r}], encode it as a category,"
                f" kinds={{{self.name!r}: 'category'}}, or convert it to float64 to allow rounding",
            )

    @property
    def names(self) -> tuple[list[str], list[str]]:
        """The names of the numbers and of the indicator."""
        return [self.name], _indicator_names(self)

    @property
    def words(self) -> str:
        """A description of the encoding."""
        scale = f"mean {brief(self.scale.mean)}, deviation {brief(self.scale.deviation)}"
        filled = f"; missing: {brief(self.scale.fill)}, and an indicator" if self.missing else ""
        return f"standardized: {scale}{filled}"


@dataclass(frozen=True)
class Date:
    """A column of dates or times, encoded as standardized numbers.

    Attributes:
      name: the name of the column.
      parts: the encoded parts, names in `PARTS`.
      scales: the standardization of each number.
      missing: the number of missing values in the training rows.
    """

    kind: ClassVar[str] = "date"
    name: str
    parts: tuple[str, ...]
    scales: tuple[Scale, ...]
    missing: int

    @classmethod
    def fit(cls, column: Any, parts: tuple[str, ...], fill: str) -> "Date":
        """Fits the encoding on the training rows of a column."""
        times = _times(column, parts)
        scales = tuple(Scale.fit(each, fill) for part in parts for each in PARTS[part](times))
        return cls(column.name, parts, scales, column.null_count())

    def encode(self, column: Any) -> Encoded:
        """Returns `(numbers, [indicator])`, without indicator if no training value is missing."""
        import polars

        dates = polars.lit(_times(column, self.parts))
        each = [number for part in self.parts for number in PARTS[part](dates)]
        encoded = [scale.encode(number) for scale, number in zip(self.scales, each)]
        return encoded, _indicator(self, dates)

    @property
    def names(self) -> tuple[list[str], list[str]]:
        """The names of the numbers and of the indicator."""
        ends = {part: ("",) for part in PARTS} | dict.fromkeys(_CYCLES, (" sine", " cosine"))
        return [f"{self.name} ({p}{end})" for p in self.parts for end in ends[p]], _indicator_names(
            self
        )

    @property
    def words(self) -> str:
        """A description of the encoding."""
        return ", ".join(self.parts) + ": standardized" + "; an indicator" * bool(self.missing)


@dataclass(frozen=True)
class Ignored:
    """A column that is not encoded.

    Attributes:
      name: the name of the column.
      reason: the reason for ignoring it.
      missing: the number of missing values in the training rows.
    """

    kind: ClassVar[str] = "left out"
    name: str
    reason: str
    missing: int

    @property
    def words(self) -> str:
        """The reason for ignoring the column."""
        return self.reason


def _indicator(kind: Real | Date, column: Any) -> list[Any]:
    """Returns the indicator of missing values, if any are missing in the training rows."""
    import polars

    return [column.is_null().cast(polars.Float32)] if kind.missing else []


def _indicator_names(kind: Real | Date) -> list[str]:
    return [f"{kind.name} is missing"] if kind.missing else []


def evaluate(columns: Sequence[Any]) -> np.ndarray:
    """Evaluates polars expressions in parallel; returns an array `[rows, len(columns)]`."""
    import polars

    named = {str(place): column for place, column in enumerate(columns)}
    return polars.select(**named).to_numpy(order="c", writable=True)


def numbers(column: Any) -> np.ndarray:
    """Returns a column as a float64 array, with NaN for missing values.

    Raises:
      InvalidType: if the column does not contain numbers.
      InvalidValue: if a number is infinite.
    """
    return as_finite(column).fill_null(np.nan).to_numpy()


def as_finite(column: Any) -> Any:
    """Casts a column to float64; raises `InvalidValue` if a number is infinite."""
    column = as_numbers(column)
    if column.is_infinite().any():
        raise infinite(column)
    return column


def infinite(column: Any) -> InvalidValue:
    """Returns the error for a column with infinite numbers."""
    wrong = column.filter(column.is_infinite())
    return InvalidValue(
        "columns",
        f"column {column.name!r} has a number that is not finite",
        got=f"{wrong[0]} in {len(wrong)} rows",
        expected="finite numbers or missing values",
        fix="Correct it, or replace it by None",
    )


def as_numbers(column: Any) -> Any:
    """Casts a column to float64; raises `InvalidType` if it does not contain numbers."""
    import polars

    if column.dtype == polars.String:
        read = column.str.strip_chars().cast(polars.Float64, strict=False)
        if read.null_count() == column.null_count():
            column = read.fill_nan(None)
    if column.dtype in (polars.Null, polars.Boolean):
        column = column.cast(polars.Float64)
    if column.dtype == polars.Duration:
        exact = column.dtype.time_unit == "ns"
        times = column.dt
        column = times.total_nanoseconds() / 1e9 if exact else times.total_microseconds() / 1e6
    if not column.dtype.is_numeric():
        raise InvalidType(
            "columns",
            f"column {column.name!r} does not contain numbers",
            got=f"{column.dtype}, such as {column.drop_nulls().head(1).to_list()}",
            expected="numbers, as in the training rows",
            fix="Correct those values, or replace them by None",
        )
    return column.cast(polars.Float64)


def _times(column: Any, parts: tuple[str, ...]) -> Any:
    import polars

    dates = as_dates(column)
    # A date has no hour in polars.
    return dates.cast(polars.Datetime("us")) if set(parts) & set(OF_TIMES) else dates


def as_dates(column: Any) -> Any:
    """Converts a column of text to dates, and returns dates unchanged.

    Raises:
      InvalidType: if a value is not a date.
    """
    import polars

    dates = column if column.dtype == polars.Null else typed(polars, column, {})
    if dates.null_count() == len(dates):
        return dates.cast(polars.Datetime)
    if dates.dtype not in (polars.Date, polars.Datetime):
        raise InvalidType(
            "columns",
            f"column {column.name!r} does not contain dates",
            got=f"{column.dtype}, such as {column.drop_nulls().head(1).to_list()}",
            expected="dates, as in the training rows",
            fix="Write them as 2026-11-28, or pass their format: read_table(..., dates=...)",
        )
    return dates
