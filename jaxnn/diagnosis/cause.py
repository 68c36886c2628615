"""A finding is the operation that gave what is not finite, in the words of who wrote the network.

A traced program knows of each operation the scopes that it is in and the calls that led to it. From
these come the layer, the phase of training, and the line of Python:

    >>> scopes = "transpose(jvp(layers))/hidden_2"
    >>> layer_of(scopes), phase_of(scopes)
    ('layers/hidden_2', 'backward')
"""

import os
import re
import sys
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jaxnn.typing import Any


@dataclass(frozen=True)
class Finding:
    """The operation that first gave what is not finite; as a string, one sentence about it.

    Attributes:
      operation: its name in `jax.lax`; `"argument"` if an argument held NaN from the beginning.
      gave: `"NaN"`, `"inf"` or `"-inf"`.
      layer: the names of the parts of the network that it is in, `"layers/hidden_2"`.
      phase: `"forward"`, `"backward"` (the gradient) or `"update"` (the optimizer).
      where: the line of Python, `"mlp.py:31 (apply)"`, or which argument, `"[1]['labels']"`.
      inputs: of each operand the dtype and shape, the least and the greatest finite value, and how
        many are NaN or infinite.
      outputs: the same of what it gave.
      iterations: which turn it was of each loop that it is in, from the outside in, counted from 0;
        of a `scan` the place in what is scanned, also if it runs backwards.
      then: what made NaN of an infinity, if something did: `"sub at loss.py:9 (loss)"`.
    """

    operation: str
    gave: str
    layer: str
    phase: str
    where: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    iterations: tuple[int, ...] = ()
    then: str = ""

    def __str__(self) -> str:
        if self.operation == "argument":
            return f"argument {self.where} held {self.gave} from the beginning: {self.outputs[0]}"
        phase = self.phase if self.phase == "update" else f"{self.phase} pass"
        layer = f" of {self.layer}" if self.layer else ""
        turn = f", turn {', '.join(map(str, self.iterations))}" if self.iterations else ""
        line = f" ({self.where.replace(' (', ' in ')}" if self.where else ""
        inputs = f"its input{'s' * (len(self.inputs) > 1)} {', '.join(self.inputs)}"
        then = f"; {self.then} made NaN of it" if self.then else ""
        return (
            f"{self.operation} gave {self.gave} in the {phase}{layer}{turn}{line}: {inputs}{then}"
        )


def trouble_of(value: Any) -> str:
    """Returns `"NaN"`, `"inf"` or `"-inf"`, the first of them that an array holds, or `""`."""
    value = value if hasattr(value, "dtype") else np.asarray(value)
    if not jnp.issubdtype(value.dtype, np.inexact):
        return ""
    numbers = np.asarray(value)
    if np.isfinite(numbers).all():
        return ""
    return "NaN" if np.isnan(numbers).any() else "inf" if (numbers == np.inf).any() else "-inf"


def text_of(value: Any) -> str:
    """Describes an array; complex numbers by their absolute values.

    >>> text_of(np.array([1.5, -2.0, np.nan], np.float32)), text_of(np.int32(3))
    ('float32[3] from -2 to 1.5, 1 NaN', 'int32[] of 3')
    """
    form = f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if not jnp.issubdtype(value.dtype, np.number):
        return form
    numbers = np.asarray(value)
    numbers = np.abs(numbers) if np.iscomplexobj(numbers) else numbers.astype(np.float64)
    nans, infinities = np.isnan(numbers).sum(), np.isinf(numbers).sum()
    if (finite := numbers[np.isfinite(numbers)]).size:
        low, high = f"{finite.min():.4g}", f"{finite.max():.4g}"
        form += f" of {low}" if low == high else f" from {low} to {high}"
    counts = [f"{nans} NaN"] * bool(nans) + [f"{infinities} infinite"] * bool(infinities)
    return ", ".join([form, *counts])


def layer_of(scopes: str) -> str:
    """Returns the names in a path of scopes, without those of transformations."""
    names: list[str] = []
    for part in scopes.split("/"):
        # A gradient, and a forward pass done again for one, begin from the outermost part.
        names = [] if re.match(r"(vmap\()*(jvp|transpose)\(", part) else names
        while found := re.fullmatch(r"(?:jvp|transpose|vmap)\((.*)\)", part):
            part = found[1]
        names += [part] * (part not in ("", "optimizer", "rematted_computation"))
    return "/".join(names)


def phase_of(scopes: str, late: bool = False) -> str:
    """Returns the phase of training; `late` is what only gradients use, wherever it is computed.

    The optimizer is what is in the scope that `learner` puts around it.
    """
    if re.match(r"(vmap\()*optimizer\b", scopes):
        return "update"
    return "backward" if late or "transpose(" in scopes else "forward"


def line_of(equation: Any) -> str:
    """Returns the innermost line of Python that is neither jax's nor Flax's; `""` if none is known.

    A compiled function is traced once, whoever calls it later: of an operation inside only the
    lines inside count. Where jax does not cut off those of the caller itself, they follow after
    `_infer_params`.
    """
    for frame in getattr(equation.source_info.traceback, "frames", []):
        name = frame.function_name.rsplit(".", 1)[-1]
        if name == "_infer_params":
            break
        if not frame.file_name.startswith(_libraries()):
            return f"{os.path.basename(frame.file_name)}:{frame.line_num} ({name})"
    return ""


def _libraries() -> tuple[str, ...]:
    names = [name for name in ("jax", "flax") if name in sys.modules]
    return tuple(os.path.dirname(str(sys.modules[name].__file__)) + os.sep for name in names)
