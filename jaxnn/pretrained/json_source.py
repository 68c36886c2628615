"""JSON files of a model, read with care: they come from somebody else."""

import json
from pathlib import Path

from jaxnn.checks import InvalidValue
from jaxnn.pretrained.stored import corrupt
from jaxnn.typing import Any

# A tokenizer of 250,000 symbols has 17 MB; nothing that is read here is larger than a few of those.
MOST_BYTES = 256 * 2**20


def parse_json(path: Path, text: bytes, what: str = "it", kind: type = dict) -> Any:
    """Returns the object (or list) that a text in JSON is.

    Raises:
      InvalidValue: if it is not valid JSON, nests too deep, has one key twice, or has another form.
    """

    def unique(pairs):
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the key {twice[:80]!r} twice")
        return dict(pairs)

    try:
        value = json.loads(text.decode(), object_pairs_hook=unique)
    except RecursionError:
        raise corrupt(
            path, f"{what} nests too deep", "very many brackets", "a few levels"
        ) from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise corrupt(path, f"{what} is not valid JSON", str(error)[:200], "an object") from None
    if not isinstance(value, kind):
        raise corrupt(path, f"{what} has the wrong form", type(value).__name__, kind.__name__)
    return value


def read_json(path: Path, kind: type = dict) -> Any:
    """Returns the object or list in a file of JSON, as `parse_json`; raises if there is none."""
    if not path.is_file():
        raise InvalidValue(
            "pretrained.load",
            f"there is no {path.name}",
            got=f"{path.parent} without it",
            expected="the folder of a model, with config.json beside its weights",
            fix=f"Copy the {path.name} that belongs to the weights into that folder",
        )
    if path.stat().st_size > MOST_BYTES:
        raise corrupt(path, "it is too large", f"{path.stat().st_size} bytes", f"{MOST_BYTES}")
    return parse_json(path, path.read_bytes(), kind=kind)
