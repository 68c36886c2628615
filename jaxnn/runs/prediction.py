"""The prediction program of a run, which predicts without the code that trained the run.

`fit` writes the learner's `predict` as portable StableHLO to `predict.bin`, if possible for every
platform and any number of examples. The arrays are arguments, named as in checkpoints.
"""

import warnings
from functools import partial
from pathlib import Path

import jax
import numpy as np

from jaxnn.checks import Caution, Invalid
from jaxnn.driver.chunks import Training
from jaxnn.formatting import first_line, reason
from jaxnn.loop._run import initial
from jaxnn.network import Network
from jaxnn.observing.observation import inputs_of
from jaxnn.observing.plan import bind, kind_of
from jaxnn.runs.lowering import lower, named_state
from jaxnn.scale.placement import alone
from jaxnn.storage import files, json_files, program_file
from jaxnn.storage.directory import COLUMNS, MEANING
from jaxnn.storage.program import Program
from jaxnn.storage.program_file import FILE
from jaxnn.typing import Any, Callable


def write(run: Path, training: Training) -> None:
    """Writes the prediction program of a run, its columns, and the meaning of its outputs.

    Raises:
      OSError: if a file cannot be written. An export that fails only warns, with a `Caution`.
    """
    columns = training.sample.columns
    if columns is not None:
        files.write(run / COLUMNS, columns.to_json().encode())
    if error := write_program(run, FILE, export, training):
        text = "the run directory has no program to predict with: it cannot be exported"
        text += f" ({first_line(error)})"
        warnings.warn(text, Caution, stacklevel=2)
    files.write(run / MEANING, json_files.encode(meaning(training), indent=1))


def meaning(training: Training) -> dict[str, Any]:
    """Returns the kind of the outputs of a run, and their names in the objective."""
    try:
        kind, bound = kind_of(training, state_shapes(training))[0], bind(training)
    except Exception:  # a custom learner may not support this
        return {"kind": "other", "names": []}
    return {"kind": kind, "names": [*bound.objective.names] if bound else []}


def write_program(
    run: Path,
    name: str,
    export: Callable[[Training], Program | None],
    training: Training,
) -> Exception | None:
    """Writes a program of a run, if it has such a program; returns the error of its export.

    Raises:
      OSError: if the file cannot be written.
    """
    program = failure = None
    try:
        with alone(training.learner):  # the program must not depend on a mesh
            program = export(training)
    except Exception as error:  # a network may contain anything that JAX cannot export
        failure = error
    if program is None:
        (run / name).unlink(missing_ok=True)
    else:
        (run / name).parent.mkdir(exist_ok=True)
        program_file.write(run, program, name)
    return failure


def warn_unless_refused(where: str, name: str, error: Exception) -> None:
    """Warns that an optional program is missing, unless the network explains why it has none."""
    if not isinstance(error, Invalid):
        text = f"{where} lacks the program {name!r}, which cannot be exported ({reason(error)})"
        warnings.warn(text, Caution, stacklevel=3)


def export(training: Training) -> Program:
    """Exports the prediction program of a run or of one member."""
    state = state_shapes(training)
    build, arrays = named_state(state)

    def predict(arrays, inputs):
        return training.learner.predict(build(arrays), inputs)

    return lower(predict, arrays, input_shapes(training, state))


def state_shapes(training: Training) -> Any:
    """Returns the shapes of the state of a run, or of one member."""
    hparams = {name: jax.ShapeDtypeStruct((), np.float32) for name in training.hparams}
    key = jax.ShapeDtypeStruct((), training.key.dtype)
    return jax.eval_shape(partial(initial, training.learner), key, hparams, training.sample)


def input_shapes(training: Training, state: Any) -> Any:
    """Returns the shapes of the inputs of the network; for texts, all tokens but the last."""
    batch = jax.eval_shape(lambda data: data.in_order(0), training.sample)
    return jax.eval_shape(partial(inputs_of, training.learner), state, batch)


Bind = Callable[[Any], tuple[Network, Any, Any]]
"""A function from arrays by name to a network, its parameters and its state."""


def bound(training: Training) -> tuple[Bind, dict[str, Any], Any]:
    """Returns the `Bind` of a run, and the shapes of its arrays by name and of its state."""
    learner, state = training.learner, state_shapes(training)
    build, arrays = named_state(state)

    def bind(arrays):
        own, parts = build(arrays), learner.parts
        assert parts is not None
        return parts.network(own.hparams), learner.eval_params(own), own.state

    return bind, arrays, state
