"""The layers program of a run: the outputs of each layer for one example, for interactive reports.

It is part of the recording of a run. It is exported like the prediction program, and its arrays
have the same names.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxnn.calls import intercept
from jaxnn.driver.chunks import Training
from jaxnn.network import walk
from jaxnn.observing.observation import inputs_of
from jaxnn.runs.prediction import PLATFORMS, Bind, bound, used_arrays
from jaxnn.scale.placement import alone
from jaxnn.storage import program_file, recording
from jaxnn.transforms._capture import capture
from jaxnn.typing import Any

FILE = "layers.bin"
PARTS = 12  # the maximum number of layers that are shown
NODES = 128  # the maximum number of nodes of a layer
MAPS = 16  # the maximum number of feature maps of a convolutional layer
PIXELS = 1 << 14  # the maximum number of outputs of a layer


def write(run: Path, training: Training) -> None:
    """Writes the layers program of a run, if its network has layers and can be exported."""
    folder = run / recording.FOLDER
    if training.learner.parts is None:
        return
    try:
        with alone(training.learner):
            content = export(training).serialize()
    except Exception:  # reports do not require it
        (folder / FILE).unlink(missing_ok=True)
    else:
        folder.mkdir(exist_ok=True)
        program_file.write(folder, bytes(content), FILE)


def read(run: Path) -> jax_export.Exported | None:
    """Returns the layers program of a run; `None` if there is none, or it cannot be read."""
    try:
        content = program_file.read(run / recording.FOLDER, FILE)
        return jax_export.deserialize(bytearray(content)) if content else None
    except Exception:  # reports do not require it
        return None


def named(outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the outputs of a layers program by layer name, in the order of the layers."""
    return {re.sub(r"^\d+ ", "", name): np.asarray(outputs[name]) for name in sorted(outputs)}


def export(training: Training) -> jax_export.Exported:
    """Returns the layers program of a run: `(arrays, inputs) -> {"00 name": outputs}`."""
    bind, leaves, state = bound(training)
    data = training.sample
    one = jax.eval_shape(lambda data: data.take(jnp.arange(1)), data)
    inputs = jax.eval_shape(partial(inputs_of, training.learner), state, one)
    return exported(bind, leaves, inputs)


def exported(
    bind: Bind, arrays: dict[str, Any], inputs: Any, platforms: tuple[str, ...] = PLATFORMS
) -> jax_export.Exported:
    """Returns the layers program of a network, for one example.

    Args:
      bind: a function from arrays to the network, its parameters and its state.
      arrays: the shapes of the arrays that the program may read, by name.
      inputs: the shapes of an example, `[1, ...]`.
      platforms: the platforms to lower the program for.
    """

    def layers(arrays, inputs):
        network, params, state = bind(arrays)
        names = shown(network) or _choice(_called(network, params, state, inputs))
        captured = capture(network, names)
        (_, outputs), _ = captured.apply(params, state, inputs)
        each = {path: cut(output) for path, output in outputs.items()}
        pairs = [(path, output) for path, output in each.items() if output is not None]
        return {f"{i:02d} {path}": output for i, (path, output) in enumerate(pairs)}

    used = used_arrays(layers, arrays, inputs)
    # Building the network requires them, even if the program does not read them.
    used |= {name: leaf for name, leaf in arrays.items() if name.startswith("hparams/")}
    return jax_export.export(jax.jit(layers), platforms=platforms)(used, inputs)


def shown(network: Any) -> tuple[str, ...]:
    """Returns the paths of up to `PARTS` activations, or of other parts if there are none."""
    return _choice({path: part.parts.kind for path, part in walk(network) if path})


def _called(network: Any, params: Any, state: Any, inputs: Any) -> dict[str, str]:
    """Returns the kinds of the layers that a network calls, such as submodules of Flax, by path."""
    kinds: dict[str, str] = {}

    def record(path: str, part: Any) -> Any:
        if path:
            kinds[path] = part.parts.kind
        return part

    jax.eval_shape(intercept(network, record).apply, params, state, inputs)
    outer = {path for path in kinds if any(each.startswith(f"{path}/") for each in kinds)}
    return {path: kind for path, kind in kinds.items() if path not in outer}


def _choice(paths: Mapping[str, str]) -> tuple[str, ...]:
    activations = [path for path, kind in paths.items() if kind == "activation"]
    names = list(activations or paths)
    places = np.linspace(0, len(names) - 1, min(PARTS, len(names))).round().astype(int)
    return tuple(names[place] for place in places)


def cut(output: Any) -> Any:
    """Returns the first nodes or feature maps of a layer; `None` if the outputs are neither."""
    if not isinstance(output, jax.Array) or output.ndim not in (2, 4):
        return None
    output = output[..., : NODES if output.ndim == 2 else MAPS].astype(jnp.float32)
    return output if output.size <= PIXELS else None
