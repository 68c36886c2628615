"""Which implementation suits a device, is decided where a program is lowered.

A program that is translated, as to ONNX, has the one for the CPU alone.
"""

import jax
from jax import lax

from jaxnn.typing import Any, Callable

_ALONE = jax.make_user_context(False)


def by_platform(*arguments: Any, default: Callable[..., Any], **others: Callable[..., Any]) -> Any:
    """Returns what the implementation for the platform computes, or else the default."""
    if _ALONE.value:
        return others.get("cpu", default)(*arguments)
    return lax.platform_dependent(*arguments, default=default, **others)


def is_translated() -> bool:
    """Returns whether what is traced becomes a program of another language, such as ONNX."""
    return _ALONE.value


def for_translation() -> Any:
    """Returns an extent in which `by_platform` computes as on the CPU, whatever the platform."""
    return _ALONE(True)
