"""Exports models to ONNX, for runtimes in other languages, by means of jax2onnx.

jax2onnx is not a dependency of jaxnn, because its requirements conflict with those of checkpoints.
Install it together with jaxnn in a separate environment. It translates a network or a run; for a
run directory, which does not contain the network, pass the network as well.
"""

from importlib import import_module
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.checks import Explained, InvalidType, InvalidValue
from jaxnn.exporting.archive import names_of
from jaxnn.formatting import reason
from jaxnn.layers._platforms import for_translation
from jaxnn.storage import json_files
from jaxnn.typing import Any, Callable

RELATIVE = 1e-4  # tolerance for outputs of ONNX Runtime, relative to the largest
INSTALL = "pip install jax2onnx onnxruntime, in an environment of its own; see docs/export.md"


class Input(NamedTuple):
    """An input of an ONNX model, with a dynamic number of examples."""

    shape: tuple[int | str, ...]
    dtype: Any


class NotTranslated(Explained):
    """A model cannot be translated to ONNX, or its outputs differ after translation."""


def translate(
    predict: Callable[[Any], Any], examples: Any, outputs: Any, about: dict[str, Any]
) -> bytes:
    """Translates a function of inputs to ONNX, and returns the content of the file.

    Args:
      predict: the function from a batch of any number of examples to outputs.
      examples: example inputs, `[examples, ...]`.
      outputs: the outputs for `examples`, which ONNX Runtime, if installed, must reproduce.
      about: the description of the model, which the file stores as the property `jaxnn`.

    Raises:
      InvalidValue: if jax2onnx is not installed.
      NotTranslated: if an operation cannot be translated, or the outputs differ.
    """
    try:
        translator: Any = import_module("jax2onnx")
    except ImportError as error:
        raise InvalidValue(
            "export",
            "models are translated to ONNX by jax2onnx, which is not installed",
            got=str(error),
            expected="an environment that has it",
            fix=INSTALL,
        ) from None
    structure = jax.tree.structure(examples)
    leaves = [np.asarray(x) for x in jax.tree.leaves(examples)]
    inputs = [Input(("examples", *x.shape[1:]), x.dtype) for x in leaves]

    def flat(*arrays):
        return tuple(jax.tree.leaves(predict(jax.tree.unflatten(structure, arrays))))

    names = [names_of(tree, prefix) for tree, prefix in
             ((examples, "inputs"), (outputs, "outputs"))]  # fmt: skip
    try:
        with for_translation():
            model = translator.to_onnx(
                flat, inputs, model_name="jaxnn", input_names=names[0], output_names=names[1]
            )
    except Exception as error:
        raise NotTranslated(
            "export",
            "the network cannot be translated to ONNX",
            got=reason(error),
            expected="operations that jax2onnx knows, for any number of examples",
            fix="Export a model file, without --onnx, or replace the layer",
        ) from error
    entry = model.metadata_props.add()
    entry.key, entry.value = "jaxnn", json_files.encode(about).decode()
    content = model.SerializeToString()
    _check(content, leaves, jax.tree.leaves(outputs))
    return content


def _check(content: bytes, inputs: list[np.ndarray], outputs: list[Any]) -> None:
    """Compares the outputs of ONNX Runtime, if installed, for all examples and for one."""
    try:
        runtime: Any = import_module("onnxruntime")
    except ImportError:
        return
    try:
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        for count in {1, len(inputs[0])}:
            parts = [x[:count] for x in inputs]
            computed = session.run(None, dict(zip(names, parts)))
            worst = max(map(_difference, computed, [np.asarray(x)[:count] for x in outputs]))
            if worst > RELATIVE:
                raise ValueError(f"outputs that differ by {worst:.1e}")
    except Exception as error:
        raise NotTranslated(
            "export",
            "ONNX Runtime does not compute what the model computes",
            got=reason(error),
            expected=f"the same outputs, within {RELATIVE:.0e} of the largest",
            fix="Export a model file, without --onnx",
        ) from error


def _difference(computed: Any, expected: Any) -> float:
    if computed.shape != expected.shape:
        raise ValueError(f"outputs of shape {computed.shape} instead of {expected.shape}")
    a, b = np.asarray(computed, np.float64), np.asarray(expected, np.float64)
    return float(np.max(np.abs(a - b), initial=0.0) / max(1.0, np.max(np.abs(b), initial=0.0)))


def no_network() -> InvalidType:
    """Returns the error for a run directory that was passed without its network."""
    return InvalidType(
        "export",
        "nothing translates the program of a run directory to ONNX, and it has no network that can"
        " be translated",
        got="network=None",
        expected="the network that was trained",
        fix="Pass network=..., on the command line --network MODULE:FUNCTION, a function of yours"
        " that returns it",
    )
