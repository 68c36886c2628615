"""Imports the optional packages of `jaxnn.pretrained` when they are needed."""

from importlib import import_module

from jaxnn.checks import InvalidValue
from jaxnn.typing import Any


def package(name: str, reason: str) -> Any:
    """Imports a package of the `hf` extra; raises `InvalidValue` if it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InvalidValue(
            "pretrained",
            f"the package {name.split('.')[0]} is not installed",
            got=str(error),
            expected=f"the package, for {reason}",
            fix="Install it: pip install 'jaxnn-toolkit[hf]'",
        ) from error
