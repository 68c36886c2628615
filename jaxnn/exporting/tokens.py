"""The tokenizer in a model file: characters, or a tokenizer of the `tokenizers` package."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from jaxnn.checks import InvalidType
from jaxnn.data import Characters
from jaxnn.pretrained.tokenizer import Tokenizer
from jaxnn.storage import json_files
from jaxnn.typing import Any

Tokens: TypeAlias = Characters | Tokenizer
"""What turns text to tokens and back: both have `encode` and `decode`."""


def characters_of(names: Sequence[str]) -> Characters | None:
    """Returns `Characters` if the names of the tokens are single sorted characters, else `None`."""
    text = "".join(names)
    if not text or len(text) != len(names) or Characters(text).all != text:
        return None
    return Characters(text)


def pieces(tokens: Tokens, drawn: Iterable[int]) -> Iterator[str]:
    """Yields the text of tokens during generation, in pieces of complete characters."""
    read: list[int] = []
    text, shown = "", 0
    for token in drawn:
        read.append(token)
        text = tokens.decode(read)
        # A character may consist of several tokens; until it is complete, it decodes to this mark.
        if not text.endswith("\ufffd") and len(text) > shown:
            yield text[shown:]
            shown = len(text)
    if len(text) > shown:
        yield text[shown:]


def write(tokens: Any) -> bytes:
    """Returns the content of the tokenizer entry of a model file.

    Raises:
      InvalidType: if `tokens` is neither a `Characters` nor a `Tokenizer`.
    """
    if isinstance(tokens, Characters):
        return json_files.encode({"characters": tokens.all})
    if isinstance(tokens, Tokenizer):
        return json_files.encode(tokens.to_json())
    raise InvalidType(
        "export",
        "the tokenizer has the wrong type",
        got=f"a {type(tokens).__name__}",
        expected="jaxnn.Characters, or the tokenizer of a pretrained model",
        fix="Pass tokenizer=jaxnn.Characters(text)",
    )


def read(content: bytes) -> Tokens:
    """Returns a tokenizer from the output of `write`.

    Raises:
      ValueError, KeyError or TypeError: if the content is invalid.
      InvalidValue: if the package `tokenizers` is required and not installed.
    """
    value = json_files.decode(content)
    if isinstance(value, dict) and isinstance(value.get("characters"), str):
        return Characters(value["characters"])
    return Tokenizer.from_json(value)
