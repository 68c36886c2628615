"""A model as a server needs it: what it takes and gives, and a function that predicts.

It comes from the directory of a run or from a model file; the rest of the room knows neither.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.catalog import entries
from jaxnn.runs import layers, load
from jaxnn.serving.batching import BUCKETS
from jaxnn.serving.drawing import Framing, framing
from jaxnn.storage import files, recording
from jaxnn.tables import Columns
from jaxnn.typing import Any, Callable


@dataclass(frozen=True)
class Served:
    """A model that is served.

    Attributes:
      name: what it is called.
      kind: what an example is: `"image"`, `"table"`, `"tokens"`, `"vector"` or `"other"`.
      inputs: the shape and dtype of an example, or a tree of them; a size that is free is `None`.
      predict: from a tree of arrays, `[examples, ...]`, to one of outputs.
      task: `"classification"`, `"regression"`, `"multi_label"`, `"next_token"` or `None`.
      classes: the names of the classes or tokens, in the order of the outputs, if known.
      columns: those of the table that it was trained on, if it was one.
      layers: from one example, `[1, ...]`, to what each layer puts out, by name; if it can.
      framing: how the images that it reads are framed, if it reads images.
      buckets: the numbers of examples that `predict` is called with.
      results: what training came to, `{"test/accuracy": 0.97}`.
    """

    name: str
    kind: str
    inputs: Any
    predict: Callable[[Any], Any]
    task: str | None = None
    classes: tuple[str, ...] | None = None
    columns: Columns | None = None
    layers: Callable[[Any], dict[str, np.ndarray]] | None = None
    framing: Framing | None = None
    buckets: tuple[int, ...] = BUCKETS
    results: Mapping[str, float] | None = None


def open_model(path: str | Path) -> Served:
    """Returns the model in the directory of a run.

    Raises:
      InvalidValue, NoCheckpoint, NoProgram or CorruptFile: if there is none to predict with.
    """
    run = entries.find(Path(path).expanduser())
    loaded = load(run)
    predictor = loaded.predictor
    shapes = predictor.signature[1]
    about = _json(run / recording.FOLDER / recording.ABOUT)
    results = _json(run / "result.json")
    columns = loaded.columns
    free = not isinstance(jax.tree.leaves(shapes)[0].shape[0], int)
    buckets = BUCKETS if free else (jax.tree.leaves(shapes)[0].shape[0],)
    outputs = jax.tree.unflatten(predictor.program.out_tree, predictor.program.out_avals)
    task = columns.task if columns is not None else _task(about, results, shapes, outputs)
    inputs = jax.tree.map(example_of, shapes)
    kind = "table" if columns is not None else kind_of(inputs)
    image = kind == "image"
    return Served(
        run.resolve().name,
        kind,
        inputs,
        lambda inputs: predictor(inputs, buckets[-1]),
        task,
        _classes(about, task, outputs),
        columns,
        _layers(run, predictor),
        framing(inputs, recording.probe(run).get("inputs")) if image else None,
        buckets,
        {name: x for name, x in results.items() if "/" in name and isinstance(x, float)},
    )


def example_of(shape: Any) -> Any:
    """Returns the shape and dtype of one example, in which a size that is free is `None`."""
    sizes = tuple(n if isinstance(n, int) else None for n in shape.shape[1:])
    return jax.ShapeDtypeStruct(sizes, shape.dtype)  # pyright: ignore


def kind_of(inputs: Any) -> str:
    """Returns what an example is, from its shape."""
    if not hasattr(inputs, "shape"):
        return "other"
    shape, real = inputs.shape, jnp.issubdtype(inputs.dtype, jnp.floating)
    if len(shape) == 1 and not real:
        return "tokens"
    if len(shape) in (2, 3) and None not in shape and (*shape, 1)[2] in (1, 3):
        return "image" if min(shape[:2]) >= 4 else "other"
    return "vector" if len(shape) == 1 else "other"


def warm(served: Served) -> None:
    """Compiles the programs of all buckets, and of the layers, by calling them."""
    for bucket in served.buckets:
        inputs = jax.tree.map(lambda x, n=bucket: _zeros(x, n), served.inputs)
        served.predict(inputs)
    if served.layers is not None:
        served.layers(jax.tree.map(lambda x: _zeros(x, 1), served.inputs))


def _zeros(example: Any, count: int) -> np.ndarray:
    return np.zeros((count, *(1 if n is None else n for n in example.shape)), example.dtype)


def _layers(run: Path, predictor: Any) -> Callable[[Any], dict[str, np.ndarray]] | None:
    """Returns what computes the outputs of layers; `None` if the run has no program for it."""
    program = layers.read(run)
    if program is None:
        return None
    (names, _), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    if not set(names) <= set(predictor.arrays):
        return None
    arrays = jax.device_put({name: predictor.arrays[name] for name in names})
    call = jax.jit(program.call)
    return lambda inputs: layers.named(call(arrays, inputs))


def _task(about: dict[str, Any], results: dict[str, Any], inputs: Any, outputs: Any) -> str | None:
    known = about.get("kind")
    if known in ("classification", "regression"):
        return known
    shape = getattr(outputs, "shape", ())
    if len(shape) == 3 and kind_of(jax.tree.map(example_of, inputs)) == "tokens":
        return "next_token"
    accurate = any(name.endswith("accuracy") for name in results)
    return "classification" if accurate and len(shape) == 2 and shape[1] != 1 else None


def _classes(about: dict[str, Any], task: str | None, outputs: Any) -> tuple[str, ...] | None:
    if task not in ("classification", "next_token"):
        return None
    count = outputs.shape[-1]
    names = about.get("names") or ()
    if len(names) == count:
        return tuple(map(str, names))
    return tuple(map(str, range(count))) if task == "classification" else None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(files.read(path))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
