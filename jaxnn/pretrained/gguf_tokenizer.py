"""Builds the tokenizer of a GGUF file from its vocabulary, merges and pre-tokenizer name.

The name, `pre`, identifies a pre-tokenizer that is implemented in the source of llama.cpp. Only
names that are known to split text as the author of the model does are supported. Others are
refused, because text that is split differently yields different tokens and worse predictions.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxnn.checks import InvalidValue
from jaxnn.pretrained.packages import package
from jaxnn.pretrained.stored import corrupt
from jaxnn.pretrained.tokenizer import Tokenizer
from jaxnn.typing import Any

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class _Split(NamedTuple):
    """Describes how text is split before symbols are merged.

    Attributes:
      digits: whether each digit is split off as a piece of its own, before the pattern is applied.
      pattern: a regular expression that matches the pieces; `None` for the pattern of GPT-2.
      normal: the Unicode normalization form, if any.
      whole: whether a piece that is in the vocabulary is one token, regardless of the merges.
      first: whether a text begins with the `bos` token, unless the file says whether it does.
    """

    digits: bool = False
    pattern: str | None = None
    normal: str | None = None
    whole: bool = False
    first: bool = False


_LLAMA3 = _Split(pattern=_WORDS.replace("DIGITS", "{1,3}"), whole=True, first=True)
PRE = {
    "gpt-2": _Split(),
    "gpt2": _Split(),
    "smollm": _Split(digits=True),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "qwen2": _Split(pattern=_WORDS.replace("DIGITS", ""), normal="NFC"),
}
_CONTROL, _USER = 3, 4  # types of symbols that are matched as a whole


def gguf_tokenizer(path: Path, settings: Mapping[str, Any]) -> Tokenizer | None:
    """Returns the tokenizer of a GGUF file, or `None` if the file has none.

    Raises:
      InvalidValue: if the type of tokenizer is not supported, or its data are incomplete.
    """
    tokens, kind = _of(settings, "tokens"), _of(settings, "model")
    if tokens is None and kind is None:
        return None
    pre = _of(settings, "pre")
    if kind != "gpt2" or pre not in PRE:
        raise InvalidValue(
            "pretrained.load",
            "the pre-tokenizer of the file is not supported",
            got=f"model={kind!r} and pre={pre!r}",
            expected="model='gpt2' with pre one of " + ", ".join(PRE),
            fix="Load the folder of the same model, with its tokenizer.json",
        )
    tokens = _list(path, settings, "tokens", str)
    types = _list(path, settings, "token_type", int)
    pairs = [tuple(merge.split(" ")) for merge in _list(path, settings, "merges", str)]
    if len(types) != len(tokens) or len({*tokens}) < len(tokens) or {*map(len, pairs)} - {2}:
        got = f"{len(tokens)} tokens, {len(types)} types, {len(pairs)} merges"
        raise corrupt(
            path, "its tokenizer is inconsistent", got, "a type for each of unequal tokens"
        )
    inner = _built(path, tokens, types, pairs, PRE[pre])
    marks = {name: _of(settings, f"{name}_token_id") for name in ("bos", "eos", "eot")}
    wrong = {name: x for name, x in marks.items() if x is not None and not 0 <= x < len(tokens)}
    if wrong:
        raise corrupt(path, "its tokenizer is inconsistent", f"{wrong}", "numbers of tokens")
    begins, ends = (_of(settings, f"add_{name}_token") for name in ("bos", "eos"))
    begins = PRE[pre].first if begins is None else begins
    before, after = (
        [tokens[marks[name]]] if adds and marks[name] is not None else []
        for name, adds in (("bos", begins), ("eos", ends))
    )
    if before or after:
        processors = package("tokenizers.processors", "the model's tokenizer")
        inner.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after],
            pair=[*before, "$A", "$B", *after],
            special_tokens=[(token, tokens.index(token)) for token in {*before, *after}],
        )
    names = {
        f"{name}_token": tokens[marks[name]] if marks[name] is not None else ""
        for name in ("bos", "eos")
    }
    stop = tuple(dict.fromkeys(marks[x] for x in ("eos", "eot") if marks[x] is not None))
    template = settings.get("tokenizer.chat_template")
    return Tokenizer(
        inner,
        stop=stop,
        template=template if isinstance(template, str) else None,
        names=names,
    )


def _of(settings: Mapping[str, Any], name: str) -> Any:
    return settings.get(f"tokenizer.ggml.{name}")


def _list(path: Path, settings: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    values = _of(settings, name)
    if not isinstance(values, list) or not all(type(x) is kind for x in values):
        got = type(values).__name__
        raise corrupt(path, f"its tokenizer has no {name}", got, f"a list of {kind.__name__}")
    return values


def _built(path: Path, tokens: list[str], types: list[int], merges: list[Any], split: _Split):
    """Returns the tokenizer as an object of the `tokenizers` library."""
    library = package("tokenizers", "the model's tokenizer")
    splits, byte_level = library.pre_tokenizers, library.pre_tokenizers.ByteLevel
    vocabulary = {token: number for number, token in enumerate(tokens)}
    try:
        model = library.models.BPE(vocab=vocabulary, merges=merges, ignore_merges=split.whole)
    except Exception as error:  # the library raises plain Exception
        got = str(error)[:200]
        raise corrupt(path, "its tokenizer is inconsistent", got, "merges of tokens") from None
    inner = library.Tokenizer(model)
    steps = [splits.Digits(individual_digits=True)] if split.digits else []
    if split.pattern is not None:
        steps.append(splits.Split(library.Regex(split.pattern), behavior="isolated"))
    steps.append(byte_level(add_prefix_space=False, use_regex=split.pattern is None))
    inner.pre_tokenizer = splits.Sequence(steps)
    if split.normal is not None:
        inner.normalizer = getattr(library.normalizers, split.normal)()
    inner.decoder = library.decoders.ByteLevel()
    inner.add_tokens(
        [
            library.AddedToken(token, special=number == _CONTROL, normalized=False)
            for token, number in zip(tokens, types)
            if number in (_CONTROL, _USER)
        ]
    )
    return inner
