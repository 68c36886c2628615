"""Writes examples to a file that a stream can read; implements `python -m jaxnn pack`."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.streams._arrays import arrays
from jaxnn.streams._arrow import arrow
from jaxnn.streams._records import records, write_records

_OPEN = {
    ".npz": arrays,
    ".npy": arrays,
    ".arrow": arrow,
    ".feather": arrow,
    ".parquet": arrow,
    ".arrayrecord": records,
    ".array_record": records,
}


def pack(source: str, file: str | Path) -> int:
    """Writes the examples of a source to an ArrayRecord file; returns the number of examples.

    Args:
      source: a file or a folder of `.npz`, `.npy`, `.parquet`, `.arrow`, `.feather` or
        `.arrayrecord` files; or `module:function`, a function that yields examples as dicts.
      file: the file to write; it appears under this name when it is complete.

    Raises:
      Invalid: if the source cannot be read, or array_record is not installed.
    """
    return write_records(_checked(source, _examples(source)), file)


def _examples(source: str) -> Iterable[Any]:
    path = Path(source).expanduser()
    if path.exists():
        files = [path] if path.is_file() else sorted(path.iterdir())
        suffixes = {each.suffix for each in files} & _OPEN.keys()
        opened = {_OPEN[suffix] for suffix in suffixes}
        if len(opened) == 1:
            return _each(opened.pop()(path))
    if ":" not in source or path.exists():
        raise InvalidValue(
            "pack",
            "the source is not one that can be opened",
            got=source,
            expected=f"a file or a folder of {', '.join(_OPEN)} files, or module:function",
            fix="Write a function that yields examples, and pass module:function",
        )
    return function_of("pack", source)()


def function_of(where: str, text: str) -> Any:
    """Imports the function named by `module:function`.

    Raises:
      InvalidValue: if it cannot be imported.
    """
    name, _, function = text.partition(":")
    try:
        return getattr(import_module(name), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidValue(
            where, "there is no such function", got=f"{text} ({error})",
            expected="module:function, a module that can be imported from here",
            fix="Check both names, and run the command where the module is",
        ) from None  # fmt: skip


def _each(source: Any) -> Iterable[Any]:
    return (source[index] for index in range(len(source)))


def _checked(source: str, examples: Any) -> Iterable[Any]:
    if isinstance(examples, dict) or not hasattr(examples, "__iter__"):
        raise _wrong(source, examples)
    for example in examples:
        if not isinstance(example, dict):
            raise _wrong(source, example)
        yield example


def _wrong(source: str, got: Any) -> InvalidType:
    return InvalidType(
        "pack",
        "the source does not yield examples",
        got=f"a {type(got).__name__} from {source}",
        expected="dicts of numbers and arrays, {'inputs': ..., 'labels': ...}",
        fix="Write yield {'inputs': inputs, 'labels': label} in the function",
    )
