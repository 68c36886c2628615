"""Files in installed packages, such as the weights of models; the packages are not imported."""

import importlib.util
from pathlib import Path

from jaxnn import InvalidValue, pretrained


def carried(package: str, pattern: str, fix: str) -> Path:
    """Returns the file of a package that matches a pattern.

    Raises:
      InvalidValue: if the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec(package)
    places = (spec and spec.submodule_search_locations) or []
    files = [file for place in places for file in Path(place).rglob(pattern)]
    if not files:
        raise InvalidValue(
            "carried",
            "the package with the weights is not installed",
            got=f"no {pattern} of a package {package}",
            expected="an installed package that contains the file",
            fix=fix,
        )
    return files[0]


def tokenizer_of(model: pretrained.Pretrained) -> pretrained.Tokenizer:
    """Returns the tokenizer of a model.

    Raises:
      InvalidValue: if it has none.
    """
    if model.tokenizer is None:
        raise InvalidValue(
            "carried",
            "the model has no tokenizer",
            got=repr(model),
            expected="a language model with its tokenizer",
            fix="Pass the folder of a language model",
        )
    return model.tokenizer
