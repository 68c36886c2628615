"""`Served`: a model for the server, with its prediction function and a description.

It is loaded from a run directory or a model file; all other modules of `serving` are independent of
its source.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.catalog import entries
from jaxnn.checks import Invalid
from jaxnn.exporting import load_model
from jaxnn.exporting.generating import Writer, writer_of
from jaxnn.exporting.tokens import characters_of
from jaxnn.runs import layers, load
from jaxnn.runs.prediction import Executable, Predictor
from jaxnn.serving.batching import BUCKETS
from jaxnn.serving.drawing import Framing, framing
from jaxnn.storage import files, recording
from jaxnn.storage.directory import MEANING
from jaxnn.tables import Columns
from jaxnn.typing import Any, Callable

CLASSES, TEXT = "classification", "next_token"


@dataclass(frozen=True)
class Served:
    """A served model.

    Attributes:
      name: the name of the model.
      kind: the kind of inputs: `"image"`, `"table"`, `"tokens"`, `"vector"` or `"other"`.
      inputs: the shape and dtype of one example, or a tree of them; dynamic sizes are `None`.
      predict: the function from a tree of arrays, `[examples, ...]`, to a tree of outputs.
      task: `"classification"`, `"regression"`, `"multi_label"`, `"next_token"` or `None`.
      classes: the names of the classes in the order of the outputs, or `None`.
      columns: the columns of the table that the model was trained on, or `None`.
      tokens: the tokenizer of a language model, or `None`.
      stop: the tokens that end a text.
      limits: the lower and upper bound of each dynamic size, by name.
      writer: the `Writer` of a language model, or `None`.
      layers: the function from one example, `[1, ...]`, to the outputs of each layer by name, or
        `None`.
      framing: the framing of the input images, or `None` for other inputs.
      buckets: the batch sizes to call `predict` with.
      results: the metrics of the model, such as `{"test/accuracy": 0.97}`.
    """

    name: str
    kind: str
    inputs: Any
    predict: Callable[[Any], Any]
    task: str | None = None
    classes: tuple[str, ...] | None = None
    columns: Columns | None = None
    tokens: Any = None
    stop: tuple[int, ...] = ()
    limits: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    writer: Writer | None = None
    layers: Callable[[Any], dict[str, np.ndarray]] | None = None
    framing: Framing | None = None
    buckets: tuple[int, ...] = BUCKETS
    results: Mapping[str, float] = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        """Whether the model generates text from text."""
        return self.writer is not None and self.tokens is not None


def open_model(path: str | Path) -> Served:
    """Opens a model file, a run directory, or the most recent run below a directory.

    Raises:
      InvalidValue, NoCheckpoint, NoProgram, CorruptModel or CorruptFile: if there is no model, or
        it cannot be loaded.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return _of_file(path)
    if path.is_dir() and not entries.is_run(path):
        path = max(entries.below(path), key=lambda run: run.stat().st_mtime, default=path)
    return _of_run(entries.find(path))


def _of_file(path: Path) -> Served:
    model = load_model(path)
    about = model.description
    tokens = model.tokenizer
    return _served(
        about.name,
        partial(model.program, "predict"),
        model.program.signature[1],
        kind=about.kind,
        task=about.task,
        classes=about.classes,
        columns=about.columns,
        tokens=tokens,
        stop=about.stop,
        limits=about.limits,
        writer=_writer(lambda: model.writer) if about.task == TEXT else None,
        layers=_layers(model.layers, model.program.signature[1]),
        examples=model.examples[0],
        results=about.results,
    )


def _of_run(run: Path) -> Served:
    loaded = load(run)
    predictor = loaded.predictor
    about = _json(run / recording.FOLDER / recording.ABOUT)
    results = _json(run / "result.json")
    shapes = predictor.signature[1]
    outputs = jax.tree.unflatten(predictor.program.out_tree, predictor.program.out_avals)
    columns = loaded.columns
    task = columns.task if columns is not None else _task(about, results, shapes, outputs)
    names = _json(run / MEANING).get("names") or about.get("names") or ()
    names = tuple(map(str, names)) if len(names) == getattr(outputs, "shape", (0,))[-1] else ()
    if columns is not None and task == CLASSES:
        names = tuple(columns.labels[0].labels)
    classes = names or tuple(map(str, range(outputs.shape[-1]))) if task == CLASSES else None
    return _served(
        str(results.get("experiment") or run.resolve().name),
        predictor,
        shapes,
        kind="table" if columns is not None else kind_of(jax.tree.map(example_of, shapes)),
        task=task,
        classes=classes,
        columns=columns,
        tokens=characters_of(names) if task == TEXT else None,
        writer=_writer(partial(_writer_of, predictor)) if task == TEXT else None,
        layers=_layers(_executable(layers.read(run), predictor), shapes),
        examples=recording.probe(run).get("inputs"),
        results=results,
    )


def _served(
    name: str, predict: Any, shapes: Any, *, kind: str, examples: Any, results: Any, **more: Any
) -> Served:
    """Returns a `Served` for a program whose inputs have the shapes `[examples, ...]`."""
    inputs = jax.tree.map(example_of, shapes)
    count = jax.tree.leaves(shapes)[0].shape[0]
    buckets = (count,) if isinstance(count, int) else BUCKETS
    return Served(
        name,
        kind,
        inputs,
        lambda batch: predict(batch, buckets[-1]),
        framing=framing(inputs, examples) if kind == "image" else None,
        buckets=buckets,
        results={name: x for name, x in results.items() if "/" in name and isinstance(x, float)},
        **more,
    )


def example_of(shape: Any) -> Any:
    """Returns the shape and dtype of one example, in which dynamic sizes are `None`."""
    sizes = tuple(n if isinstance(n, int) else None for n in shape.shape[1:])
    return jax.ShapeDtypeStruct(sizes, shape.dtype)  # pyright: ignore


def _examples(shapes: Any) -> Any:
    """Returns the structure, shapes and dtypes of one example, for comparison."""
    leaves, structure = jax.tree.flatten(shapes)
    return structure, [(example.shape, example.dtype) for example in map(example_of, leaves)]


def kind_of(inputs: Any) -> str:
    """Infers the kind of inputs from the shape and dtype of an example."""
    if not hasattr(inputs, "shape"):
        return "other"
    shape, real = inputs.shape, jnp.issubdtype(inputs.dtype, jnp.floating)
    if len(shape) == 1 and not real:
        return "tokens"
    if len(shape) in (2, 3) and None not in shape and (*shape, 1)[2] in (1, 3):
        return "image" if min(shape[:2]) >= 4 else "other"
    return "vector" if len(shape) == 1 else "other"


def _layers(
    program: Executable | None, shapes: Any
) -> Callable[[Any], dict[str, np.ndarray]] | None:
    """Returns the function that computes layer outputs; `None` without a matching program."""
    # The layers program has inputs of fixed size, even if the model accepts any length.
    if program is None or _examples(program.signature[1]) != _examples(shapes):
        return None
    arrays = jax.device_put({name: program.arrays[name] for name in program.signature[0]})
    call = jax.jit(program.program.call)
    return lambda inputs: layers.named(call(arrays, inputs))


def _writer_of(predictor: Predictor) -> Writer:
    return writer_of(Executable(predictor.program, predictor.arrays))


def _executable(program: Any, predictor: Predictor) -> Executable | None:
    """Returns a program of a run with its arrays, or `None` if the run lacks some of them."""
    if program is None:
        return None
    executable = Executable(program, predictor.arrays)
    return executable if set(executable.signature[0]) <= set(predictor.arrays) else None


def _writer(make: Callable[[], Writer]) -> Writer | None:
    """Returns the `Writer` of a model, or `None` if the model cannot generate text."""
    try:
        return make()
    except Invalid:
        return None


def _task(about: dict[str, Any], results: dict[str, Any], inputs: Any, outputs: Any) -> str | None:
    known = about.get("kind")
    if known in (CLASSES, "regression"):
        return known
    shape = getattr(outputs, "shape", ())
    if len(shape) == 3 and kind_of(jax.tree.map(example_of, inputs)) == "tokens":
        return TEXT
    accurate = any(name.endswith("accuracy") for name in results)
    return CLASSES if accurate and len(shape) == 2 and shape[1] != 1 else None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(files.read(path))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
