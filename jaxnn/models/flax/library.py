"""Lazy imports of Flax's modules, as `library.nnx` and `library.linen`.

Importing jaxnn therefore does not import Flax.
"""

from jaxnn.typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    import flax.linen
    import flax.nnx

    return getattr(flax, name)
