"""`export`: writes a model file, which predicts without the code that built the network.

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
from pathlib import Path
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidValue, choice
from jaxnn.exporting import archive, tokens
from jaxnn.exporting.description import Kind, Task
from jaxnn.exporting.onnx_file import no_network, translate
from jaxnn.exporting.sources import Source, description_of, source_of
from jaxnn.network import Network
from jaxnn.runs.executable import Executable
from jaxnn.storage import files
from jaxnn.storage.specs import Spec, specs_of, to_json
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
    """Writes a self-contained model file, for use with `load_model(path).predict(inputs)`.

    The file contains the parameters, a program for CPU, CUDA, ROCm and TPU that takes any number of
    examples, a description of inputs and outputs, and two examples with their outputs. It is
    written atomically. The suffix of the path selects other formats: `.onnx` writes a program for
    ONNX runtimes (see docs/export.md), and `.safetensors` only parameters and state.

    Args:
      model: a `Run`, a run directory, a `Pretrained`, or a tuple `(network, params, state)`. A run
        is exported in its best state, and a population as its best member.
      path: the file to write, such as `model.jaxnn`.
      inputs: example inputs, `[examples, ...]`; the file contains the first two. The default is
        evaluation data of the run, if there is any. Anyone with the file can read them.
      name: the name of the model; by default the name of its run.
      kind: the kind of inputs, see `Description`; by default inferred from their shapes.
      task: the meaning of the outputs, see `Description`; by default the task of the run.
      classes: the names of the classes, in the order of the outputs.
      tokenizer: a `Characters`, or the tokenizer of a pretrained model.
      network: the network of a run directory, which does not contain it; required for ONNX.

    Returns:
      The path of the file.

    Raises:
      InvalidType: if the model has the wrong type, or its program cannot be exported.
      InvalidValue: if the inputs or names do not match the model.
      NoCheckpoint: if a directory has no valid checkpoint.
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
    outputs = Executable(source.program, arrays)("export", source.examples, 1024)
    description = description_of(source, name, kind).to_json()
    if path.suffix == ".onnx":
        if (predict := source.predict) is None:
            raise no_network()
        params = jax.tree.map(jnp.asarray, arrays)
        content = translate(lambda x: predict(params, x), source.examples, outputs, description)
        files.write(path, content)
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
