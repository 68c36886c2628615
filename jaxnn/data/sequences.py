"""Sequences of different lengths as arrays: `pad` uses one row for each, `pack` shares rows.

>>> pad([[5, 6, 7], [8]])
{'inputs': array([[5, 6, 7],
       [8, 0, 0]]), 'lengths': array([3, 1], dtype=int32)}
>>> packed = pack([[5, 6, 7], [8], [1, 2]], 4)
>>> packed["inputs"].tolist(), packed["segments"].tolist()
([[5, 6, 7, 8], [1, 2, 0, 0]], [[1, 1, 1, 2], [3, 3, 0, 0]])

`resident`, `split` and `examples` accept the fields of both. During training, the learner converts
them to `Masked` inputs, and the outputs for each sequence equal those for the sequence alone.
"""

from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import NoReturn

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, positive_integer
from jaxnn.data._fields import as_numpy, computed, read_fields, same_length
from jaxnn.typing import Any


def pad(sequences: Any, length: int | None = None) -> dict[str, Any]:
    """Returns sequences as one array that is padded with zeros, and their `lengths`.

    Args:
      sequences: arrays `[time, ...]` of different lengths, possibly 0; or a dict of fields whose
        `inputs` are such arrays. Fields with an entry for each position of each sequence, such as
        `labels` of tokens, are padded too; other fields have one entry for each sequence.
      length: the number of positions in a row. The default is the length of the longest sequence.

    Returns:
      `inputs` `[sequences, length, ...]`, `lengths` int32 `[sequences]`, and the other fields.

    Raises:
      InvalidType: if a field does not hold numbers.
      InvalidValue: if a sequence is longer than `length`, or a field does not fit the inputs.
    """
    fields = _fields("pad", sequences)
    inputs, lengths = _ragged("pad", "inputs", fields["inputs"])
    longest = int(lengths.max())
    length = max(1, longest) if length is None else positive_integer("pad", "length", length)
    if longest > length:
        _refuse_long("pad", lengths, length, "Cut them: [x[:length] for x in sequences]")
    first = np.arange(len(lengths)) * length
    padded: dict[str, Any] = {"inputs": _rows(inputs, lengths, first, len(lengths), length)}
    padded["lengths"] = lengths.astype(np.int32)
    for name, field in fields.items():
        if name == "inputs":
            continue
        values = _of_places("pad", name, field, lengths)
        padded[name] = (
            field if values is None else _rows(values, lengths, first, len(lengths), length)
        )
    padded = read_fields("pad", padded)
    same_length("pad", padded)
    return padded


def pack(documents: Any, length: int, *, overlap: int | None = None) -> dict[str, Any]:
    """Returns documents concatenated into few rows, and the `segments` of each row.

    Attention does not cross documents, positions are counted within each document, and `next_token`
    predicts no token from the previous document. The longest documents are placed first, each in
    the fullest row that has room.

    Args:
      documents: arrays `[time, ...]` of different lengths; or a dict of fields whose `inputs` are
        such arrays. Each field has an entry for each position, such as `labels` of tokens.
      length: the number of positions in a row.
      overlap: the number of positions that consecutive parts of a long document share; 1 for
        `next_token`, to predict each token but the first once. By default, long ones are errors.

    Returns:
      `inputs` `[rows, length, ...]`; `segments` int32 `[rows, length]`, the number of the document
      counted from 1, or 0 for padding; and the other fields.

    Raises:
      InvalidType: if a field does not hold numbers.
      InvalidValue: if a document is empty or too long, a field does not fit the inputs, or
        `overlap` is not below `length`.
    """
    positive_integer("pack", "length", length)
    fields = _fields("pack", documents)
    _, lengths = _ragged("pack", "inputs", fields["inputs"])
    _check_documents(lengths, length, overlap)
    # For each part: its document, its start and its length.
    step = length - (overlap or 0)
    counts = 1 + np.maximum(0, -(-(lengths - length) // step))
    document = np.repeat(np.arange(len(lengths)), counts)
    start = step * (np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts))
    parts = np.minimum(lengths[document] - start, length)
    rows = _best_fit(parts, length)
    order = np.lexsort((np.arange(len(parts)), rows))  # by row, then in the given order
    parts, rows, document, start = (x[order] for x in (parts, rows, document, start))
    ends = np.cumsum(parts)
    begins = np.searchsorted(rows, rows)  # the first part of the same row
    first = rows * length + (ends - parts) - (ends - parts)[begins]
    read = _steps(np.cumsum(lengths)[document] - lengths[document] + start, parts)
    count = int(rows[-1]) + 1
    packed = {}
    for name, field in fields.items():
        values = _of_places("pack", name, field, lengths)
        if values is None:
            _refuse_whole(name, field)
        packed[name] = _rows(values[read], parts, first, count, length)
    number = np.repeat(document + 1, parts).astype(np.int32)
    packed["segments"] = _rows(number, parts, first, count, length)
    return read_fields("pack", packed)


def _best_fit(parts: np.ndarray, length: int) -> np.ndarray:
    """Returns the row of each part.

    Source: best fit decreasing, Johnson et al., SIAM Journal on Computing 1974.
    """
    row, count = np.zeros(len(parts), np.intp), 0
    spaces: list[int] = []  # the distinct free spaces of all rows, sorted
    rows: dict[int, list[int]] = {}  # by their free space
    for part in np.argsort(-parts, kind="stable"):
        size = int(parts[part])
        place = bisect_left(spaces, size)
        if place < len(spaces):
            space = spaces[place]
            row[part] = rows[space].pop()
            if not rows[space]:
                del rows[space], spaces[place]
        else:
            space, row[part], count = length, count, count + 1
        if (left := space - size) > 0:
            if left not in rows:
                insort(spaces, left)
                rows[left] = []
            rows[left].append(int(row[part]))
    # Full rows come first, so that the last part of a long document follows its other parts.
    _, first, row = np.unique(row, return_index=True, return_inverse=True)
    order = np.lexsort((first, parts[first] < length))
    return np.argsort(order)[row]


def _rows(values: Any, lengths: Any, first: Any, count: int, length: int) -> np.ndarray:
    """Returns `[count, length, ...]`, zeros with each piece of the values at its first place."""
    rows = np.zeros((count * length, *values.shape[1:]), values.dtype)
    rows[_steps(first, lengths)] = values
    return rows.reshape(count, length, *values.shape[1:])


def _steps(first: Any, lengths: Any) -> np.ndarray:
    """Returns `first, first + 1, ...` for each piece, concatenated."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1]) + np.repeat(first - (ends - lengths), lengths)


def _fields(where: str, sequences: Any) -> dict[str, Any]:
    fields = dict(sequences) if isinstance(sequences, Mapping) else {"inputs": sequences}
    taken = sorted(fields.keys() & {"mask", "lengths", "segments"})
    if "inputs" not in fields or taken:
        raise InvalidValue(
            where,
            f"the field {taken[0]} is what {where} computes" if taken else "there are no inputs",
            got=f"fields {', '.join(map(str, fields)) or 'none'}",
            expected="inputs, and fields for their places or examples",
            fix="Pass the sequences without their padding" if taken else "Name them 'inputs'",
        )
    return fields


def _ragged(where: str, name: str, field: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the concatenated sequences of a field, and their lengths."""
    field = computed(field)
    parts = None
    if hasattr(field, "__len__") and not isinstance(field, str | Mapping):
        parts = [as_numpy(where, name, x) for x in field]
    if not parts or any(x.ndim == 0 or x.dtype.kind in "OUSc" for x in parts):
        wrong = next((x for x in parts or () if x.ndim == 0 or x.dtype.kind in "OUSc"), None)
        raise InvalidType(
            where,
            f"{name} are not sequences of numbers",
            got=f"a {type(field).__name__}"
            + ("" if wrong is None else f" with an entry of {wrong.dtype} {list(wrong.shape)}"),
            expected="a list of arrays [time, ...]",
            fix="Pass [Characters(text).encode(x) for x in texts] for texts",
        )
    lengths = np.array([len(x) for x in parts], np.intp)
    some = [x for x in parts if len(x)] or parts[:1]  # an empty list has an arbitrary dtype
    shapes = {x.shape[1:] for x in some}
    if len(shapes) > 1:
        raise InvalidValue(
            where,
            f"the places of {name} have different shapes",
            got=", ".join(map(str, sorted(shapes)[:3])),
            expected="sequences that differ in their length alone, [time, ...]",
            fix="Give each place as many features",
        )
    return np.concatenate(some), lengths


def _of_places(where: str, name: str, field: Any, lengths: np.ndarray) -> np.ndarray | None:
    """Returns the entries of all positions; `None` if a field has one for each sequence."""
    field = computed(field)
    if not hasattr(field, "__len__") or isinstance(field, Mapping) or len(field) != len(lengths):
        return None
    if any(np.ndim(x) == 0 if hasattr(x, "ndim") else not hasattr(x, "__len__") for x in field):
        return None
    counts = np.array([len(x) for x in field])
    if (counts == lengths).all():
        return _ragged(where, name, field)[0]
    if len(set(counts.tolist())) > 1:
        wrong = int(np.argmax(counts != lengths))
        raise InvalidValue(
            where,
            f"{name} do not have an entry for each place of a sequence",
            got=f"{counts[wrong]} entries for the {lengths[wrong]} places of sequence {wrong}",
            expected="as many entries as places in each sequence, or one entry for each sequence",
            fix=f"Give {name} for the same places as the inputs",
        )
    return None


def _check_documents(lengths: np.ndarray, length: int, overlap: int | None) -> None:
    if overlap is not None and not (isinstance(overlap, int) and 0 <= overlap < length):
        raise InvalidValue(
            "pack",
            "parts of a document cannot overlap so",
            got=f"overlap={overlap!r} for rows of {length}",
            expected=f"a whole number from 0 to {length - 1}",
            fix="Pass overlap=1 for next_token, or 0",
        )
    if not lengths.min():
        raise InvalidValue(
            "pack",
            "a document is empty, and has no place in a row",
            got=f"document {int(lengths.argmin())} of length 0",
            expected="documents of at least one place",
            fix="Leave it out: [x for x in documents if len(x)]",
        )
    if overlap is None and lengths.max() > length:
        _refuse_long("pack", lengths, length, "Pass overlap=1 to cut longer documents into parts")


def _refuse_long(where: str, lengths: np.ndarray, length: int, fix: str) -> NoReturn:
    raise InvalidValue(
        where,
        "a sequence is longer than a row",
        got=f"sequence {int(lengths.argmax())} of {lengths.max()} places, and length={length}",
        expected=f"at most {length} places",
        fix=f"{fix}, or pass length={lengths.max()}",
    )


def _refuse_whole(name: str, field: Any) -> NoReturn:
    raise InvalidValue(
        "pack",
        f"{name} do not have an entry for each place, and a row holds several documents",
        got=f"{name} of shape {np.shape(field) if hasattr(field, 'shape') else (len(field),)}",
        expected="an entry for each place of each document",
        fix="Repeat the entry of a document for its places, or use pad, with a row for each",
    )
