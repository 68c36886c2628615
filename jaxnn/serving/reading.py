"""Converts the content of a request to the input arrays of a model.

A request has one example or a list of examples as `inputs`, rows of a table as `rows`, PNG files as
`images` in base64 or as the body itself, or a drawing as `strokes`.
"""

import base64
import binascii
import io
import math
import warnings

import jax
import numpy as np

from jaxnn.formatting import first_line
from jaxnn.serving.refusals import Refused
from jaxnn.serving.served import Served
from jaxnn.typing import Any

MOST = 4096  # maximum number of examples in a request
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by the number of channels


def inputs_of(served: Served, value: Any) -> Any:
    """Converts `inputs`, one example or a list of examples, to arrays.

    Raises:
      Refused or Invalid: if the inputs do not match those of the model.
    """
    if served.about.columns is not None and not isinstance(value, dict):
        raise Refused(
            422,
            "the model reads rows of a table",
            got=f"inputs as {_named(value)}",
            expected=f"rows with the columns {', '.join(column_names(served))[:400]}",
            fix='Send {"rows": [{"column": value, ...}]}; see /docs',
        )
    named = isinstance(value, dict) and value
    arrays = {name: _numbers(x) for name, x in value.items()} if named else _numbers(value)
    if jax.tree.structure(arrays) == jax.tree.structure(served.inputs):
        arrays = jax.tree.map(_examples, arrays, served.inputs)
    return served.accept(arrays)


def rows_of(served: Served, value: Any) -> Any:
    """Encodes rows of a table, which are objects with values by column name, as arrays.

    Raises:
      Refused: if the rows do not match the columns of the model.
    """
    import polars

    columns = served.about.columns
    if columns is None:
        raise Refused(
            422,
            "the model reads no table",
            got="rows",
            expected=f"inputs of {jax.tree.map(described, served.inputs)}",
            fix='Send {"inputs": [...]}; see /docs',
        )
    value = [value] if isinstance(value, dict) else value
    plain = str | int | float | bool | None
    if (
        not isinstance(value, list)
        or not 0 < len(value) <= MOST
        or not all(isinstance(row, dict) for row in value)
        or not all(isinstance(cell, plain) for row in value for cell in row.values())
    ):
        raise Refused(
            422,
            "the rows are not rows",
            got=_named(value),
            expected=f"1 to {MOST:,} objects, whose values are text, numbers, true, false or null",
            fix='Send {"rows": [{"column": value, ...}]}; see /docs',
        )
    names = column_names(served)
    # Rows may also have labels, and columns that training ignored.
    known = {column.name for column in (*columns.inputs, *columns.labels)}
    unknown = sorted({name for row in value for name in row} - known)
    if unknown:
        raise Refused(
            422,
            "the table has no such column",
            got=repr(unknown[0][:80]),
            expected=f"columns {', '.join(names)[:400]}",
            fix="Leave it out, or correct its name",
        )
    table = {name: [row.get(name) for row in value] for name in names}
    try:
        frame = polars.DataFrame(table, strict=True)
    except (TypeError, OverflowError, polars.exceptions.PolarsError) as error:
        raise Refused(
            422,
            "a column has values of several types",
            got=first_line(error),
            expected="text, or numbers, or null, of one type in each column",
            fix="Send numbers without quotes, and dates as text: 2026-11-28",
        ) from None
    return columns.encode(frame, labels=False)["inputs"]


def images_of(served: Served, value: Any) -> Any:
    """Decodes PNG files in base64 to an array, `[examples, ...]`.

    Raises:
      Refused: if an image cannot be read, or does not have the size of the model's inputs.
    """
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not 0 < len(value) <= MOST:
        raise Refused(
            422, "the images are not a list", got=_named(value),
            expected=f"1 to {MOST:,} PNG files in base64", fix='Send {"images": ["iVBOR..."]}',
        )  # fmt: skip
    return np.concatenate([image_of(served, _decoded(each)) for each in value])


def image_of(served: Served, content: bytes) -> Any:
    """Decodes a PNG file to an array `[1, ...]`; scales 0 to 255 to the range of the model.

    Raises:
      Refused: if the image cannot be read, or does not have the size of the model's inputs.
    """
    from PIL import Image

    if served.framing is None:
        raise Refused(
            422, "the model reads no images", got="an image",
            expected=str(jax.tree.map(described, served.inputs)), fix="See /docs",
        )  # fmt: skip
    height, width = served.inputs.shape[:2]
    channels = (*served.inputs.shape, 1)[2]
    fix = f"Send a PNG of {width} x {height} pixels, or what is drawn as strokes; see /docs"
    expected = f"a PNG of {width} x {height} pixels"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture = Image.open(io.BytesIO(content), formats=("PNG",))
            if picture.size != (width, height):  # before decompression
                got = f"{picture.size[0]} x {picture.size[1]} pixels"
                raise Refused(422, "the image has another size", got=got, expected=expected,
                              fix=fix)  # fmt: skip
            pixels = np.asarray(picture.convert(_MODES[channels]))
    except Refused:
        raise
    except Exception as error:  # Pillow raises errors of many types
        got = f"{len(content):,} bytes ({type(error).__name__})"
        raise Refused(
            422, "the image cannot be read", got=got, expected=expected, fix=fix
        ) from None
    scaled = pixels.astype(np.float32) * (served.framing.high / 255)
    whole = np.issubdtype(served.inputs.dtype, np.integer)
    array = (np.rint(scaled) if whole else scaled).astype(served.inputs.dtype)
    return array.reshape(1, *served.inputs.shape)


def column_names(served: Served) -> list[str]:
    """Returns the names of the columns that are inputs of a model."""
    columns = served.about.columns
    inputs = () if columns is None else columns.inputs
    return [column.name for column in inputs if column.kind != "left out"]


def described(example: Any) -> str:
    """Formats a shape and dtype as text, such as `uint8[28, 28]`."""
    sizes = ", ".join("any" if size is None else str(size) for size in example.shape)
    return f"{np.dtype(example.dtype).name}[{sizes}]"


def _numbers(value: Any) -> np.ndarray:
    """Converts nested lists of numbers to an array."""
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError, RecursionError):
        array = np.asarray(None)  # lists of different lengths
    if array.dtype.kind not in "iuf" or not isinstance(value, list) or _has_booleans(value):
        raise Refused(
            422, "the inputs are not an array of numbers", got=_named(value),
            expected="numbers in lists of equal lengths", fix="See the sizes in /docs",
        )  # fmt: skip
    return array


def _examples(array: np.ndarray, like: Any) -> np.ndarray:
    """Returns an array with an axis of examples, in float64 if the model reads real numbers."""
    array = array[None] if array.ndim == len(like.shape) else array
    if len(array) > MOST:
        raise Refused(
            422, "there are too many examples", got=f"{len(array):,}", expected=f"up to {MOST:,}",
            fix="Send several requests",
        )  # fmt: skip
    return array if np.issubdtype(like.dtype, np.integer) else array.astype(np.float64)


def _has_booleans(value: list[Any]) -> bool:
    """Returns whether nested lists contain booleans, which NumPy converts to 1 and 0."""
    if isinstance(value[0] if value else None, list):
        return any(map(_has_booleans, value))
    return bool in set(map(type, value))


def _decoded(text: Any) -> bytes:
    try:
        if not isinstance(text, str):
            raise ValueError
        return base64.b64decode(text.removeprefix("data:image/png;base64,"), validate=True)
    except (ValueError, binascii.Error):
        raise Refused(
            422, "an image is not base64", got=_named(text), expected="a PNG file in base64",
            fix="Encode its bytes: base64 -w0 image.png",
        ) from None  # fmt: skip


def _named(value: Any) -> str:
    """Describes a value in a few words, for an error message."""
    if isinstance(value, list):
        sizes, inner = [len(value)], value
        while isinstance(inner, list) and inner and isinstance(inner[0], list) and len(sizes) < 9:
            inner = inner[0]
            sizes.append(len(inner))
        within = _named(inner[0]) if inner and not isinstance(inner[0], list) else "nothing"
        return f"lists of {' x '.join(map(str, sizes))} ({within} first)"
    if isinstance(value, dict):
        return f"an object with {', '.join(repr(n[:40]) for n in list(value)[:5]) or 'nothing'}"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number that is not finite"
    return "null" if value is None else f"{str(value)[:40]!r}"
