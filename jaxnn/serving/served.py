"""`Served`: a model for the server, with its prediction function and a description.

It is loaded from a run directory or a model file; all other modules of `serving` are independent of
its source.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np

from jaxnn.catalog import entries, sweeps
from jaxnn.checks import Invalid
from jaxnn.exporting import Description, Model, load_model
from jaxnn.exporting.generating import Writer
from jaxnn.exporting.tokens import Tokens
from jaxnn.runs import layers
from jaxnn.runs.executable import Executable
from jaxnn.serving.batching import BUCKETS
from jaxnn.serving.drawing import Framing, framing
from jaxnn.storage import recording
from jaxnn.typing import Any, Callable


@dataclass(frozen=True)
class Served:
    """A served model.

    Attributes:
      about: the description of the model.
      inputs: the shape and dtype of one example, or a tree of them; dynamic sizes are `None`.
      accept: the function that validates a tree of arrays, and converts it to the dtypes of inputs.
      predict: the function from a tree of arrays, `[examples, ...]`, to a tree of outputs.
      tokens: the tokenizer of a language model, or `None`.
      writer: the `Writer` of a language model, or `None`.
      layers: the function from one example, `[1, ...]`, to the outputs of each layer by name, or
        `None`.
      framing: the framing of the input images, or `None` for other inputs.
      buckets: the batch sizes to call `predict` with.
    """

    about: Description
    inputs: Any
    accept: Callable[[Any], Any]
    predict: Callable[[Any], Any]
    tokens: Tokens | None = None
    writer: Writer | None = None
    layers: Callable[[Any], dict[str, np.ndarray]] | None = None
    framing: Framing | None = None
    buckets: tuple[int, ...] = BUCKETS

    @property
    def writes(self) -> bool:
        """Whether the model generates text from text."""
        return self.writer is not None and self.tokens is not None

    def zeros(self, count: int) -> Any:
        """Returns `count` examples of zeros; dynamic sizes are 1."""

        def array(example: Any) -> np.ndarray:
            sizes = (1 if size is None else size for size in example.shape)
            return np.zeros((count, *sizes), example.dtype)

        return jax.tree.map(array, self.inputs)

    def warm(self, buckets: Sequence[int] | None = None) -> None:
        """Compiles the programs for the given or all buckets, for layers, and for text."""
        for bucket in self.buckets if buckets is None else buckets:
            self.predict(self.zeros(bucket))
        if self.layers is not None:
            self.layers(self.zeros(1))
        if self.writer is not None and self.tokens is not None:
            self.writer.warm()


def open_model(path: str | Path) -> Served:
    """Opens a model file, a run directory, or the most recent run below a directory.

    A sweep, which has no model of its own, is not such a run.

    Raises:
      InvalidValue, NoCheckpoint, NoProgram, CorruptModel or CorruptFile: if there is no model, or
        it cannot be loaded.
    """
    path = Path(path).expanduser()
    if path.is_file():
        model = load_model(path)
        return _served(model, model.examples[0])
    if path.is_dir() and not entries.is_run(path):
        runs = [run for run in entries.below(path) if not (run / sweeps.FILE).exists()]
        path = entries.newest(runs or [path])
    run = entries.find(path)
    return _served(load_model(run), recording.probe(run).get("inputs"))


def _served(model: Model, examples: Any) -> Served:
    """Returns a `Served` for a model; `examples` are inputs such as it was trained on, if known."""
    shapes = model.program.signature[1]
    inputs = jax.tree.map(example_of, shapes)
    count = jax.tree.leaves(shapes)[0].shape[0]
    buckets = (count,) if isinstance(count, int) else BUCKETS
    return Served(
        model.description,
        inputs,
        partial(model.program.accept, "predict"),
        lambda batch: model.program("predict", batch, buckets[-1]),
        tokens=model.tokenizer,
        writer=_writer(model),
        layers=_layers(model.layers, shapes),
        framing=framing(inputs, examples) if model.description.kind == "image" else None,
        buckets=buckets,
    )


def example_of(shape: Any) -> Any:
    """Returns the shape and dtype of one example, in which dynamic sizes are `None`."""
    sizes = tuple(n if isinstance(n, int) else None for n in shape.shape[1:])
    return jax.ShapeDtypeStruct(sizes, shape.dtype)  # pyright: ignore


def _examples(shapes: Any) -> Any:
    """Returns the structure, shapes and dtypes of one example, for comparison."""
    leaves, structure = jax.tree.flatten(shapes)
    return structure, [(example.shape, example.dtype) for example in map(example_of, leaves)]


def _layers(
    program: Executable | None, shapes: Any
) -> Callable[[Any], dict[str, np.ndarray]] | None:
    """Returns the function that computes layer outputs; `None` without a matching program."""
    # The layers program has inputs of fixed size, even if the model accepts any length.
    if program is None or _examples(program.signature[1]) != _examples(shapes):
        return None
    arrays = jax.device_put(program.own)
    call = jax.jit(program.exported.call)
    return lambda inputs: layers.named(call(arrays, inputs))


def _writer(model: Model) -> Writer | None:
    """Returns the `Writer` of a model, or `None` if the model cannot generate text."""
    try:
        return model.writer if model.description.task == "next_token" else None
    except Invalid:
        return None
