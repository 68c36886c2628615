"""Flax itself, imported when something of it is first used: `library.nnx`, `library.linen`.

So importing jaxnn does not import Flax.
"""

from jaxnn.typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    import flax.linen
    import flax.nnx

    return getattr(flax, name)
