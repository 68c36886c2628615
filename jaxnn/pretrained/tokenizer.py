"""Tokenizers convert text to the tokens that a network reads, and back."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.masked import Masked
from jaxnn.pretrained.chat import render
from jaxnn.pretrained.json_source import MOST_BYTES, read_json
from jaxnn.pretrained.packages import package
from jaxnn.pretrained.stored import corrupt
from jaxnn.typing import Any

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
GENERATION, TEMPLATE = "generation_config.json", "chat_template.jinja"
_LENGTH = "sentence_bert_config.json"
# The special tokens without which a text would be encoded or would end in another way.
_SPECIAL = ("bos", "eos", "cls", "sep", "unk")


class Tokenizer:
    """Converts text to tokens, with the vocabulary and rules of a pretrained model.

    Attributes:
      symbols: the size of the vocabulary, which is the largest token plus one.
      stop: the tokens that end a text.
      template: the Jinja template for conversations; `None` if the model has none.
    """

    def __init__(
        self,
        inner: Any,
        *,
        stop: tuple[int, ...] = (),
        template: str | None = None,
        names: Mapping[str, str] | None = None,
        length: int | None = None,
    ):
        self._inner, self._names = inner, dict(names or {})
        self.stop, self.template = stop, template
        self.symbols = 1 + max(inner.get_vocab(with_added_tokens=True).values(), default=-1)
        # The file of a tokenizer may turn on padding and truncation.
        inner.no_padding()
        inner.no_truncation()
        self._length = length
        if length is not None:
            inner.enable_truncation(length)

    def to_json(self) -> dict[str, Any]:
        """Returns the tokenizer as a dict that can be stored as JSON; see `from_json`."""
        rest = {"stop": self.stop, "template": self.template, "length": self._length}
        return {"tokenizer": self._inner.to_str(), "names": self._names, **rest}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Tokenizer":
        """Returns the tokenizer that `to_json` stored.

        Raises:
          ValueError, KeyError or TypeError: if `content` is not valid.
        """
        inner = package("tokenizers", "the model's tokenizer").Tokenizer
        try:
            inner = inner.from_str(content["tokenizer"])
        except Exception as error:  # the library raises plain Exception
            raise ValueError(str(error)[:200]) from None
        names, template, length = (content[name] for name in ("names", "template", "length"))
        stop = tuple(int(token) for token in content["stop"])
        return cls(inner, stop=stop, template=template, names=names, length=length)

    def files(self) -> dict[str, str]:
        """Returns the contents of the files that transformers reads a tokenizer from, by name."""
        special = {name: text for name, text in self._names.items() if text}
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
        if self.template is not None:
            settings["chat_template"] = self.template
        ends = list(self.stop) if len(self.stop) != 1 else self.stop[0]
        contents = {TOKENIZER: self._inner.to_str(), SETTINGS: _json(settings)}
        if self.stop:
            contents[GENERATION] = _json({"eos_token_id": ends})
        if self._length is not None:
            contents[_LENGTH] = _json({"max_seq_length": self._length})
        return contents

    def __repr__(self) -> str:
        return f"Tokenizer({self.symbols:,} symbols)"

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Returns the tokens of a text.

        Args:
          text: the text.
          special: whether to add the special tokens that the model expects, such as a first token.
        """
        return self._encoded([text], special)[0].ids

    def batch(self, texts: Sequence[Any], *, special: bool = True) -> Any:
        """Returns the tokens of several texts as `Masked` int32 `[batch, time]`, padded at the end.

        For pairs of texts, it returns a dict `{"tokens": ..., "types": ...}` of two such arrays.
        """
        if isinstance(texts, str):
            raise InvalidType(
                "Tokenizer",
                "batch takes several texts",
                got="a single text",
                expected="a list of texts",
                fix="Pass [text], or use encode",
            )
        texts = [tuple(x) if isinstance(x, list | tuple) else x for x in texts]
        encoded = self._encoded(texts, special)
        lengths = np.array([len(each.ids) for each in encoded], np.int32)

        def padded(rows):
            values = np.zeros((len(lengths), max(1, lengths.max(initial=1))), np.int32)
            for row, tokens in zip(values, rows, strict=True):
                row[: len(tokens)] = tokens
            return Masked.from_lengths(values, lengths)

        tokens = padded([each.ids for each in encoded])
        if not texts or isinstance(texts[0], str):
            return tokens
        return {"tokens": tokens, "types": padded([each.type_ids for each in encoded])}

    def decode(self, tokens: Any, *, special: bool = False) -> str:
        """Returns the text of the tokens; special tokens are included if `special` is true."""
        return self._inner.decode([int(x) for x in tokens], skip_special_tokens=not special)

    def chat_text(self, messages: Sequence[Mapping[str, Any]], *, answer: bool = True) -> str:
        """Formats a conversation as the model was trained to read it.

        Args:
          messages: the messages in order, each as `{"role": "user", "content": "..."}`.
          answer: whether to append the beginning of an answer, for use with `generate`.

        Raises:
          InvalidValue: if the model has no template, or the template rejects the messages.
        """
        return render(self.template, messages, answer, self._names)

    def chat(self, messages: Sequence[Mapping[str, Any]], *, answer: bool = True) -> list[int]:
        """Returns the tokens of the text from `chat_text`."""
        return self.encode(self.chat_text(messages, answer=answer), special=False)

    def _encoded(self, texts: list[Any], special: bool) -> list[Any]:
        for text in texts:
            pair = isinstance(text, tuple) and len(text) == 2
            if not all(isinstance(x, str) for x in (text if pair else (text,))):
                raise InvalidType(
                    "Tokenizer",
                    "the inputs are not text",
                    got=f"a {type(text).__name__}",
                    expected="a text, or a pair of texts",
                    fix="Pass str(text)",
                )
        return self._inner.encode_batch(texts, add_special_tokens=special)


def read_tokenizer(folder: Path, config: Mapping[str, Any]) -> Tokenizer | None:
    """Reads `tokenizer.json` from a folder; returns `None` if the folder has no such file."""
    file = folder / TOKENIZER
    if not file.is_file():
        return None
    if file.stat().st_size > MOST_BYTES:
        raise corrupt(file, "it is too large", f"{file.stat().st_size} bytes", f"{MOST_BYTES}")
    library = package("tokenizers", "the model's tokenizer")
    try:
        inner = library.Tokenizer.from_str(file.read_text())
    except Exception as error:  # the library raises plain Exception
        raise corrupt(file, "it is not a tokenizer", str(error)[:200], "valid JSON") from None
    about, sentences = (_optional(folder / name) for name in (SETTINGS, _LENGTH))
    generation = _optional(folder / GENERATION)
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    ends = ends if isinstance(ends, list) else [ends]
    special = {name: _content(about.get(f"{name}_token")) for name in _SPECIAL}
    missing = [x for x in special.values() if x and inner.token_to_id(x) is None]
    if missing:
        got = f"{missing[0]!r} in {SETTINGS}, which {TOKENIZER} does not have"
        raise _does_not_fit(got, "the special tokens of the model")
    _check_ends(inner, ends, config.get("vocab_size"))
    names = {f"{name}_token": special[name] for name in ("bos", "eos")}
    if ends == [None]:
        ends = [inner.token_to_id(names["eos_token"])]
    template = about.get("chat_template")
    if (folder / TEMPLATE).is_file():
        template = (folder / TEMPLATE).read_text(errors="replace")
    if isinstance(template, list):  # several named templates
        named = {x.get("name"): x.get("template") for x in template if isinstance(x, dict)}
        template = named.get("default")
    length = sentences.get("max_seq_length")
    if sentences.get("do_lower_case") is True:
        steps = [library.normalizers.Lowercase(), inner.normalizer]
        inner.normalizer = library.normalizers.Sequence([step for step in steps if step])
    return Tokenizer(
        inner,
        stop=tuple(x for x in ends if type(x) is int),
        template=template if isinstance(template, str) else None,
        names=names,
        length=length if type(length) is int and length > 0 else None,
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _content(token: Any) -> str:
    """Returns the text of a special token, which may be a string or a dict with its settings."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else ""


def check_fits(tokenizer: Tokenizer, rows: int) -> None:
    """Raises if the token embedding has fewer rows than there are tokens, or far more.

    A few rows more are usual: authors round the size of a vocabulary up to a multiple of a power of
    two, or add special tokens to a model and not to its tokenizer.
    """
    unused = rows - tokenizer.symbols
    most = max(1024, rows // 16) if rows % 8 == 0 else 64
    if not 0 <= unused <= most:
        raise _does_not_fit(
            f"{tokenizer.symbols:,} tokens for {rows:,} rows",
            f"a row for each token, and at most {most:,} more",
        )


def _check_ends(inner: Any, ends: list[Any], rows: Any) -> None:
    """Raises if the model ends a text with a token that is an ordinary one in the tokenizer.

    Ids without a row in the model are defaults of its configuration, and mean nothing.
    """
    special = inner.get_added_tokens_decoder()
    ids = [x for x in ends if type(x) is int and type(rows) is int and 0 <= x < rows]
    if ids and not any(x in special for x in ids):
        token = inner.id_to_token(ids[0])
        raise _does_not_fit(
            f"eos_token_id={ids[0]}, which is " + (f"{token!r}" if token else "no token"),
            "a special token of the tokenizer",
        )


def _does_not_fit(got: str, expected: str) -> InvalidValue:
    return InvalidValue(
        "pretrained.load",
        "the tokenizer does not fit the model",
        got=got,
        expected=expected,
        fix="Copy the tokenizer.json that belongs to these weights into their folder, or remove it"
        " to load the model without a tokenizer",
    )
