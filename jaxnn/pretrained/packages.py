"""Packages that only this room needs, imported where they are used."""

from importlib import import_module

from jaxnn.checks import InvalidValue
from jaxnn.typing import Any


def package(name: str, reason: str) -> Any:
    """Returns a package of the extra `hf`; raises, naming the extra, if it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InvalidValue(
            "pretrained",
            f"the package {name.split('.')[0]} is not installed",
            got=str(error),
            expected=f"it, for {reason}",
            fix="Install it: pip install 'jaxnn-toolkit[hf]'",
        ) from error
