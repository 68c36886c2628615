"""Describes the operation that first computed NaN or infinity, in terms of the user's network.

A traced program records the scopes and the traceback of each operation. These determine the layer,
the phase of training, and the line of Python:

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
from jax.extend.core import JaxprEqn

from jaxnn.typing import Any


@dataclass(frozen=True)
class ArraySummary:
    """The shape, range and non-finite elements of an array; complex numbers by absolute value.

    Attributes:
      dtype: the dtype of the array.
      shape: the shape of the array.
      low: the smallest finite element; `None` if there is none.
      high: the largest finite element; `None` if there is none.
      nans: the number of NaN elements.
      infinities: the number of infinite elements.
    """

    dtype: str
    shape: tuple[int, ...]
    low: float | None = None
    high: float | None = None
    nans: int = 0
    infinities: int = 0

    def __str__(self) -> str:
        text = f"{self.dtype}[{','.join(map(str, self.shape))}]"
        if self.low is not None:
            low, high = f"{self.low:.4g}", f"{self.high:.4g}"
            text += f" of {low}" if low == high else f" from {low} to {high}"
        text += f", {self.nans} NaN" if self.nans else ""
        return text + (f", {self.infinities} infinite" if self.infinities else "")


@dataclass(frozen=True)
class Finding:
    """The operation that first computed NaN or infinity; `str` describes it in one sentence.

    Attributes:
      operation: the name of the primitive; `"argument"` if an argument already contained NaN.
      gave: `"NaN"`, `"inf"` or `"-inf"`.
      layer: the path of the part of the network, such as `"layers/hidden_2"`.
      phase: `"forward"`, `"backward"` (the gradient) or `"update"` (the optimizer).
      where: the line of Python, `"mlp.py:31 (apply)"`, or the argument, `"[1]['labels']"`.
      inputs: the operands.
      outputs: the results.
      iterations: the iteration of each enclosing loop, the outermost first, counted from 0; in a
        `scan`, the index into the scanned arrays, even if it runs in reverse.
      then: the operation that turned an infinity into NaN, if any: `"sub at loss.py:9 (loss)"`.
    """

    operation: str
    gave: str
    layer: str
    phase: str
    where: str
    inputs: tuple[ArraySummary, ...]
    outputs: tuple[ArraySummary, ...]
    iterations: tuple[int, ...] = ()
    then: str = ""

    def __str__(self) -> str:
        if self.operation == "argument":
            return f"argument {self.where} held {self.gave} from the beginning: {self.outputs[0]}"
        phase = self.phase if self.phase == "update" else f"{self.phase} pass"
        layer = f" of {self.layer}" if self.layer else ""
        places = ", ".join(map(str, self.iterations))
        places = f", iteration {places}" if places else ""
        line = f" ({self.where.replace(' (', ' in ')}" if self.where else ""
        inputs = f"its input{'s' * (len(self.inputs) > 1)} {', '.join(map(str, self.inputs))}"
        then = f"; {self.then} turned it into NaN" if self.then else ""
        return (
            f"{self.operation} gave {self.gave} in the {phase}{layer}{places}{line}: {inputs}{then}"
        )


def nonfinite_of(value: Any) -> str:
    """Returns the first of `"NaN"`, `"inf"` and `"-inf"` that an array contains, or `""`."""
    value = value if hasattr(value, "dtype") else np.asarray(value)
    if not jnp.issubdtype(value.dtype, np.inexact):
        return ""  # such as a key, which does not convert to numbers
    numbers = np.asarray(value)
    if np.isfinite(numbers).all():
        return ""
    return "NaN" if np.isnan(numbers).any() else "inf" if (numbers == np.inf).any() else "-inf"


def summary_of(value: Any) -> ArraySummary:
    """Returns the `ArraySummary` of an array.

    >>> str(summary_of(np.array([1.5, -2.0, np.nan], np.float32))), str(summary_of(np.int32(3)))
    ('float32[3] from -2 to 1.5, 1 NaN', 'int32[] of 3')
    """
    dtype, shape = str(value.dtype), tuple(value.shape)
    if not jnp.issubdtype(value.dtype, np.number):
        return ArraySummary(dtype, shape)
    numbers = np.asarray(value)
    numbers = np.abs(numbers) if np.iscomplexobj(numbers) else numbers.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
    nans, infinities = int(np.isnan(numbers).sum()), int(np.isinf(numbers).sum())
    return ArraySummary(dtype, shape, low, high, nans, infinities)


def layer_of(scopes: str) -> str:
    """Returns the path of the layer in a path of scopes, without transformations."""
    names: list[str] = []
    for part in scopes.split("/"):
        # A gradient, and a forward pass repeated for one, start from the outermost part.
        names = [] if re.match(r"(vmap\()*(jvp|transpose)\(", part) else names
        while wrapped := re.fullmatch(r"(?:jvp|transpose|vmap)\((.*)\)", part):
            part = wrapped[1]
        names += [part] * (part not in ("", "optimizer", "rematted_computation"))
    return "/".join(names)


def phase_of(scopes: str, for_gradient: bool = False) -> str:
    """Returns the phase of training of an operation, from its scopes.

    `for_gradient` is whether only gradients use its results. `learner` runs the optimizer in the
    scope `optimizer`.
    """
    if re.match(r"(vmap\()*optimizer\b", scopes):
        return "update"
    return "backward" if for_gradient or "transpose(" in scopes else "forward"


def line_of(equation: JaxprEqn) -> str:
    """Returns the innermost line of Python outside of JAX and Flax; `""` if unknown.

    A jitted function is traced once for all callers, so only lines inside it count. Its traceback
    may continue with its first caller, after `_infer_params`.
    """
    names = ("jax", "flax", "equinox", "jaxtyping", "jaxnn.models.flax")
    modules = [sys.modules[name] for name in names if name in sys.modules]
    libraries = tuple(os.path.dirname(str(module.__file__)) + os.sep for module in modules)
    for frame in getattr(equation.source_info.traceback, "frames", []):
        name = frame.function_name.rsplit(".", 1)[-1]
        if name == "_infer_params":
            break
        if not frame.file_name.startswith(libraries):
            return f"{os.path.basename(frame.file_name)}:{frame.line_num} ({name})"
    return ""
