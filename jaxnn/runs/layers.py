"""The layers program of a run: what each layer puts out for one example, for pages that show it.

A run that is recorded has it in its recording. It is exported as the prediction program is, and
reads arrays by the same names.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxnn.driver.chunks import Training
from jaxnn.loop._run import initial
from jaxnn.names import named_leaves
from jaxnn.network import walk
from jaxnn.observing.observation import inputs_of
from jaxnn.runs.prediction import PLATFORMS, used_arrays
from jaxnn.scale.placement import alone
from jaxnn.storage import program_file, recording
from jaxnn.transforms._capture import capture
from jaxnn.typing import Any

FILE = "layers.bin"
PARTS = 12  # layers that are shown
NODES = 128  # of a layer that are shown
MAPS = 16  # of a convolutional layer
PIXELS = 1 << 14  # numbers of a layer that are shown


def write(run: Path, training: Training) -> None:
    """Writes the layers program of a run, if it has layers to show."""
    folder = run / recording.FOLDER
    if training.learner.parts is None:
        return
    try:
        with alone(training.learner):
            content = export(training).serialize()
    except Exception:  # no page needs it
        (folder / FILE).unlink(missing_ok=True)
    else:
        folder.mkdir(exist_ok=True)
        program_file.write(folder, bytes(content), FILE)


def read(run: Path) -> jax_export.Exported | None:
    """Returns the layers program of a run; `None` if there is none that can be read."""
    try:
        content = program_file.read(run / recording.FOLDER, FILE)
        return jax_export.deserialize(bytearray(content)) if content else None
    except Exception:  # no page needs it
        return None


def named(outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the outputs of a layers program by the names of the layers, in their order."""
    return {re.sub(r"^\d+ ", "", name): np.asarray(outputs[name]) for name in sorted(outputs)}


def export(training: Training) -> jax_export.Exported:
    """Returns the layers program: `(arrays, inputs) -> {"00 name": outputs}`, for one example."""
    learner, data = training.learner, training.sample
    parts: Any = learner.parts
    hparams = {name: jax.ShapeDtypeStruct((), np.float32) for name in training.hparams}
    key = jax.ShapeDtypeStruct((), training.key.dtype)
    state = jax.eval_shape(partial(initial, learner), key, hparams, data)
    structure, leaves = jax.tree.structure(state), named_leaves(state)
    one = jax.eval_shape(lambda data: data.take(jnp.arange(1)), data)
    inputs = jax.eval_shape(partial(inputs_of, learner), state, one)
    paths = shown(parts.network(training.hparams))

    def layers(arrays, inputs):
        whole = [arrays.get(name, leaf) for name, leaf in leaves.items()]
        state = jax.tree.unflatten(structure, whole)
        network = capture(parts.network(state.hparams), paths)
        (_, captured), _ = network.apply(learner.eval_params(state), state.state, inputs)
        each = {path: cut(output) for path, output in captured.items()}
        pairs = [(path, output) for path, output in each.items() if output is not None]
        return {f"{i:02d} {path}": output for i, (path, output) in enumerate(pairs)}

    used = used_arrays(layers, leaves, inputs)
    # A network is built with them, even where it reads none.
    used |= {name: leaf for name, leaf in leaves.items() if name.startswith("hparams/")}
    return jax_export.export(jax.jit(layers), platforms=PLATFORMS)(used, inputs)


def shown(network: Any) -> tuple[str, ...]:
    """Returns the paths of the activations of a network, or of its layers if it has none."""
    paths = {path: part.parts.kind for path, part in walk(network) if path}
    activations = [path for path, kind in paths.items() if kind == "activation"]
    names = list(activations or paths)
    places = np.linspace(0, len(names) - 1, min(PARTS, len(names))).round().astype(int)
    return tuple(names[place] for place in places)


def cut(output: Any) -> Any:
    """Returns what is shown of the outputs of a layer: nodes, or maps; `None` if it is neither."""
    if not isinstance(output, jax.Array) or output.ndim not in (2, 4):
        return None
    output = output[..., : NODES if output.ndim == 2 else MAPS].astype(jnp.float32)
    return output if output.size <= PIXELS else None
