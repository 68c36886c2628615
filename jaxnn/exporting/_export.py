"""`export`: one file that predicts without the code that built it.

>>> import tempfile
>>> import jax, jaxnn
>>> network = jaxnn.mlp([4], 3)
>>> inputs = jax.random.normal(jax.random.key(1), (5, 2))
>>> params, state = network.init(jax.random.key(0), inputs)
>>> path = f"{tempfile.mkdtemp()}/model.jaxnn"
>>> export((network, params, state), path, inputs=inputs, classes=["a", "b", "c"]).name
'model.jaxnn'
>>> jaxnn.load_model(path).predict(inputs).shape
(5, 3)
"""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidValue, choice
from jaxnn.exporting import archive, tokens
from jaxnn.exporting.description import Description, Kind, Task
from jaxnn.exporting.onnx_file import no_network, translate
from jaxnn.exporting.sources import Source, source_of
from jaxnn.exporting.specs import Spec, specs_of, to_json, without_examples
from jaxnn.exporting.verifying import predicted
from jaxnn.network import Network
from jaxnn.runs.writing import is_text
from jaxnn.storage import files
from jaxnn.typing import Any


def export(
    model: Any,
    path: str | Path,
    *,
    inputs: Any = None,
    name: str | None = None,
    kind: Kind | str | None = None,
    task: Task | str | None = None,
    classes: Sequence[str] | None = None,
    tokenizer: Any = None,
    network: Network | None = None,
) -> Path:
    """Writes a model file, which predicts by itself: `load_model(path).predict(inputs)`.

    It holds the program, for CPU, CUDA and TPU and any number of examples, the parameters, what
    inputs and outputs mean, and two examples with their outputs. It is written whole or not at all.
    The ending of the path may ask for something else: `.onnx` for a program that ONNX runtimes
    read (see docs/export.md), `.safetensors` for parameters and state alone.

    Args:
      model: a `Run`, the directory of one, a `Pretrained`, or a tuple `(network, params, state)`.
        Of a run, the best state; where it has members, that of the best one.
      path: the file to write, such as `model.jaxnn`.
      inputs: examples of inputs, the first two of which are in the file. By default those of the
        evaluation, where a run has any: they can be read by whoever has the file.
      name: what the model is called; by default what its run is called.
      kind: what inputs mean, see `Description`; by default what their shapes suggest.
      task: what outputs mean; by default that of the run.
      classes: the names of the classes, in the order of the outputs.
      tokenizer: `Characters`, or the tokenizer of a pretrained model, from text to tokens and back.
      network: that of a run directory, which has none, for ONNX.

    Returns:
      The path.

    Raises:
      InvalidType: if the model has the wrong type, or no program that stands by itself.
      InvalidValue: if inputs or names do not fit the model.
      NoCheckpoint: if a directory has no checkpoint that is good.
      NotTranslated: if the network cannot be translated to ONNX.
      OSError: if the file cannot be written.
    """
    path = _target(path)
    source = source_of(model, inputs, network)
    if tokenizer is not None:
        source = source._replace(tokens=tokenizer)
    if classes is not None:
        source = source._replace(classes=tuple(map(str, classes)), task="classification")
    if kind is not None:
        choice("export", "kind", kind, get_args(Kind))
    if task is not None:
        choice("export", "task", task, get_args(Task))
        source = source._replace(task=task)
    _check_classes(source)
    arrays = {name: np.asarray(source.arrays[name]) for name in source.arrays}
    if path.suffix == ".safetensors":
        archive.write_arrays(path, arrays)
        return path
    outputs = predicted(source.program, arrays, source.examples)
    description = _described(source, name, kind).to_json()
    if path.suffix == ".onnx":
        files.write(path, _translated(source, outputs, description))
        return path
    entries: dict[str, Any] = {archive.PARAMS: arrays, archive.PROGRAM: source.program.code}
    examples = archive.arrays_of(source.examples, "inputs")
    entries[archive.EXAMPLES] = examples | archive.arrays_of(outputs, "outputs")
    if source.tokens is not None:
        entries[archive.TOKENIZER] = tokens.write(source.tokens)
    for each, program in source.more.items():
        entries[archive.MORE[each]] = program.code
    more = {each: program.to_json() for each, program in source.more.items()}
    content = {**description, "program": source.program.to_json(), "programs": more}
    content["examples"] = [to_json(specs_of(tree)) for tree in (source.examples, outputs)]
    archive.write(path, content, entries)
    return path


def _translated(source: Source, outputs: Any, about: dict[str, Any]) -> bytes:
    predict = source.predict
    if predict is None:
        raise no_network()
    arrays = {name: jnp.asarray(array) for name, array in source.arrays.items()}
    return translate(lambda inputs: predict(arrays, inputs), source.examples, outputs, about)


def _described(source: Source, name: str | None, kind: Any) -> Description:
    program, limits = source.program, {}
    for constraint in program.constraints:
        size, _, most = constraint.partition(" <= ")
        limits[size] = (1, int(most))
    first = jax.tree.leaves(program.inputs)[0].shape[0]
    return Description(
        name or source.name,
        kind or _kind(source),
        without_examples(program.inputs),
        without_examples(program.outputs),
        source.task or ("next_token" if is_text(program.inputs, program.outputs) else None),  # pyright: ignore
        source.classes,
        source.columns,
        tuple(getattr(source.tokens, "stop", ())),
        getattr(source.tokens, "template", None),
        limits,
        first if isinstance(first, int) else None,
        program.platforms,
        source.results,
        {"jax": jax.__version__, "jaxlib": metadata.version("jaxlib"), "jaxnn": _version()},
    )


def _kind(source: Source) -> Kind:
    """Returns what inputs mean, as far as shapes and dtypes say."""
    if source.columns is not None:
        return "table"
    inputs = source.program.inputs
    if not isinstance(inputs, Spec):
        return "other"
    shape, whole = inputs.shape[1:], np.issubdtype(np.dtype(inputs.dtype), np.integer)
    if len(shape) == 1 and (
        is_text(inputs, source.program.outputs) or source.tokens or inputs.dtype == "int32"
    ):
        return "tokens" if whole else "vector"
    if len(shape) == 1:
        return "vector"
    pixels = [size for size in shape[:2] if isinstance(size, int) and size > 3]
    if len(pixels) == 2 and (shape[2:] in ((1,), (3,), (4,)) or (len(shape) == 2 and whole)):
        return "image"
    return "other"


def _target(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if path.is_dir() or not path.parent.is_dir():
        raise InvalidValue(
            "export",
            "the path is not that of a file to write",
            got=f"{path}, " + ("a folder" if path.is_dir() else f"and no folder {path.parent}"),
            expected="a file in a folder that exists",
            fix="Pass, say, 'model.jaxnn'",
        )
    return path


def _check_classes(source: Source) -> None:
    outputs, classes = source.program.outputs, source.classes
    width = outputs.shape[-1] if isinstance(outputs, Spec) and outputs.shape else None
    if classes is not None and len(classes) != width:
        raise InvalidValue(
            "export",
            "the classes are not as many as the outputs",
            got=f"{len(classes)} classes for outputs {outputs}",
            expected=f"{width} names",
            fix="Name each output, in their order",
        )


def _version() -> str:
    try:
        return metadata.version("jaxnn-toolkit")
    except metadata.PackageNotFoundError:  # it is not installed, only on the path
        return "unknown"
