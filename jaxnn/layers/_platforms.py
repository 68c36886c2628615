"""Implementations by platform, selected when a program is lowered.

A program that is translated to another format, such as ONNX, contains the CPU implementation only.
"""

import jax
from jax import lax

from jaxnn.typing import Any, Callable

_ALONE = jax.make_user_context(False)


def by_platform(*arguments: Any, default: Callable[..., Any], **others: Callable[..., Any]) -> Any:
    """Calls the implementation for the platform, such as `cpu=`, or else `default`."""
    if _ALONE.value:
        return others.get("cpu", default)(*arguments)
    return lax.platform_dependent(*arguments, default=default, **others)


def is_translated() -> bool:
    """Returns whether the traced program is to be translated to another format, such as ONNX."""
    return _ALONE.value


def for_translation() -> Any:
    """Returns a context manager in which `by_platform` calls the CPU implementation only."""
    return _ALONE(True)
