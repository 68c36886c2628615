"""Reads the JSON files of a model, and validates them as untrusted input."""

import json
from pathlib import Path

from jaxnn.checks import InvalidValue
from jaxnn.pretrained.stored import corrupt
from jaxnn.typing import Any

# A tokenizer with a vocabulary of 250,000 has 17 MB; other files are at most a few times larger.
MOST_BYTES = 256 * 2**20


def parse_json(path: Path, text: bytes, what: str = "it", kind: type = dict) -> Any:
    """Parses JSON text that must hold an object, or a value of type `kind`.

    Raises:
      InvalidValue: if the text is not valid JSON, is nested too deeply, repeats a key, or does not
        hold a value of type `kind`.
    """

    def unique(pairs):
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the key {twice[:80]!r} is repeated")
        return dict(pairs)

    try:
        value = json.loads(text.decode(), object_pairs_hook=unique)
    except RecursionError:
        raise corrupt(
            path, f"{what} is nested too deeply", "very many brackets", "a few levels"
        ) from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise corrupt(path, f"{what} is not valid JSON", str(error)[:200], "an object") from None
    if not isinstance(value, kind):
        raise corrupt(path, f"{what} has the wrong form", type(value).__name__, kind.__name__)
    return value


def read_json(path: Path, kind: type = dict) -> Any:
    """Reads a JSON file with `parse_json`; raises `InvalidValue` if the file does not exist."""
    if not path.is_file():
        raise InvalidValue(
            "pretrained.load",
            f"there is no {path.name}",
            got=f"no such file in {path.parent}",
            expected="the folder of a model, with config.json beside its weights",
            fix=f"Copy the {path.name} that belongs to the weights into that folder",
        )
    if path.stat().st_size > MOST_BYTES:
        raise corrupt(path, "it is too large", f"{path.stat().st_size} bytes", f"{MOST_BYTES}")
    return parse_json(path, path.read_bytes(), kind=kind)
