"""The layers program of a run: the outputs of each layer for one example, for interactive reports.

It is part of the recording of a run. It is exported like the prediction program, and its arrays
have the same names.
"""

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxnn.calls import intercept
from jaxnn.driver.chunks import Training
from jaxnn.network import walk
from jaxnn.runs import prediction
from jaxnn.runs.lowering import PLATFORMS, used_arrays
from jaxnn.runs.prediction import Bind
from jaxnn.storage.program import Program, program_of
from jaxnn.transforms._capture import capture
from jaxnn.typing import Any

PARTS = 12  # the maximum number of layers that are shown
NODES = 128  # the maximum number of nodes of a layer
MAPS = 16  # the maximum number of feature maps of a convolutional layer
PIXELS = 1 << 14  # the maximum number of outputs of a layer


def named(outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the outputs of a layers program by layer name, in the order of the layers."""
    return {re.sub(r"^\d+ ", "", name): np.asarray(outputs[name]) for name in sorted(outputs)}


def export(training: Training) -> Program | None:
    """Returns the layers program of a run: `(arrays, inputs) -> {"00 name": outputs}`.

    It is `None` if the network has no layers to show.
    """
    if training.learner.parts is None:
        return None
    bind, leaves, state = prediction.bound(training)
    return exported(bind, leaves, prediction.input_shapes(training, state))


def exported(bind: Bind, arrays: dict[str, Any], inputs: Any) -> Program | None:
    """Returns the layers program of a network, for one example; `None` if it has no layers to show.

    Args:
      bind: a function from arrays to the network, its parameters and its state.
      arrays: the shapes of the arrays that the program may read, by name.
      inputs: the shapes of examples, `[examples, ...]`.
    """

    def layers(arrays, inputs):
        network, params, state = bind(arrays)
        names = shown(network) or _choice(_called(network, params, state, inputs))
        if not names:
            return {}
        captured = capture(network, names)
        (_, outputs), _ = captured.apply(params, state, inputs)
        each = {path: cut(output) for path, output in outputs.items()}
        pairs = [(path, output) for path, output in each.items() if output is not None]
        return {f"{i:02d} {path}": output for i, (path, output) in enumerate(pairs)}

    inputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), inputs)
    used = used_arrays(layers, arrays, inputs)
    # Building the network requires them, even if the program does not read them.
    used |= {name: leaf for name, leaf in arrays.items() if name.startswith("hparams/")}
    program = jax_export.export(jax.jit(layers), platforms=PLATFORMS)(used, inputs)
    return program_of(program) if program.out_avals else None


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
