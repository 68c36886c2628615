"""The prediction program of a run, which predicts without the code that trained the run.

`fit` exports the learner's `predict` with `jax.export` to `predict.bin`, if possible for every
platform and any number of examples. The arrays are arguments, named as in checkpoints.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxnn.checks import Caution, Explained, InvalidType, InvalidValue
from jaxnn.data._resident import stored
from jaxnn.driver.chunks import Training
from jaxnn.loop._evaluate import in_batches
from jaxnn.loop._run import initial
from jaxnn.masked import Masked
from jaxnn.names import named_leaves
from jaxnn.network import Network
from jaxnn.observing.observation import inputs_of
from jaxnn.observing.plan import bind, kind_of
from jaxnn.scale.placement import alone
from jaxnn.storage import files, json_files, program_file
from jaxnn.storage.directory import COLUMNS, MEANING
from jaxnn.storage.program_file import FILE
from jaxnn.typing import Any, Callable

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
# The number of examples per call, if the program does not support a symbolic number.
FIXED = 64
# Primitives that call a function with the same inputs, in different versions of jax.
CALLS = ("pjit", "jit")
# The number of examples on which two networks are compared.
TRIED = 4


# `Masked` inputs and outputs can then be part of an exported program.
jax_export.register_pytree_node_serialization(
    Masked,
    serialized_name="jaxnn.Masked",
    serialize_auxdata=lambda data: b"",
    deserialize_auxdata=lambda data: (),
)


class NoProgram(Explained):
    """A run directory has no prediction program that this version of JAX can read."""


@dataclass(frozen=True)
class Predictor:
    """The prediction program of a run with its arrays; the program is read on first use.

    Attributes:
      run: the run directory.
      arrays: the arrays of the state by the names in the program, `{"params/0/weight": ...}`.
    """

    run: Path
    arrays: Mapping[str, Any] = field(repr=False)

    @cached_property
    def program(self) -> jax_export.Exported:
        """The program: `(arrays, inputs) -> outputs`.

        Raises:
          NoProgram: if there is no program, or this version of JAX cannot read it.
          CorruptFile: if the file has changed since it was written.
        """
        fix = "Apply the network: network.apply(loaded.params, loaded.state, inputs)"
        content = program_file.read(self.run)
        if content is None:
            raise NoProgram(
                "load",
                "the run has no program to predict with",
                got=f"no {FILE} in {self.run}",
                expected="one, which fit writes if it is given data",
                fix=fix,
            )
        try:
            return jax_export.deserialize(bytearray(content))
        except Exception as error:
            raise NoProgram(
                "load",
                f"{self.run / FILE} cannot be read by jax {jax.__version__}",
                got=str(error).splitlines()[0],
                expected="a program that a version of jax of at most six months before wrote",
                fix=f"Use the version that the run names. {fix}",
            ) from error

    @property
    def signature(self) -> tuple[dict[str, Any], Any]:
        """The shapes of arrays and inputs; the first axis of inputs is `FIXED` or symbolic."""
        return Executable(self.program, self.arrays).signature

    def __call__(self, inputs: Any, batch_size: int) -> Any:
        """Returns the outputs for any number of inputs as NumPy arrays.

        Raises:
          InvalidType: if the inputs do not have the structure, shapes and dtypes of training.
        """
        return Executable(self.program, self.arrays)("predict", inputs, batch_size)


@dataclass(frozen=True)
class Executable:
    """A program `(arrays, inputs) -> outputs` with its arrays, for any number of inputs.

    Attributes:
      program: the exported program.
      arrays: the arrays by name; they may include arrays that the program does not read.
      limits: the minimum and maximum of each symbolic size, by its name.
    """

    program: jax_export.Exported
    arrays: Mapping[str, Any] = field(repr=False)
    limits: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)

    @property
    def signature(self) -> tuple[dict[str, Any], Any]:
        """The shapes of arrays and inputs; the first axis of inputs is `FIXED` or symbolic."""
        return jax.tree.unflatten(self.program.in_tree, self.program.in_avals)[0]

    def __call__(self, where: str, inputs: Any, batch_size: int) -> Any:
        """Returns the outputs for any number of inputs as NumPy arrays.

        Raises:
          InvalidType: if the inputs do not have the structure, shapes and dtypes of training.
          InvalidValue: if a number is out of the range of the training dtype.
        """
        names, wanted = self.signature
        inputs = stored(where, {"inputs": inputs})["inputs"]
        if not self._takes(inputs, wanted):
            raise InvalidType(
                where,
                "the inputs are not such as the run was trained on",
                got=f"examples of {_described(inputs)}",
                expected=f"examples of {_described(wanted)}" + self._limits(),
                fix="Pass an axis of examples first, and then what the data of the training had",
            )
        inputs = jax.tree.map(_convert, inputs, wanted)
        count = jax.tree.leaves(wanted)[0].shape[0]
        call = partial(_call, self.program, {name: self.arrays[name] for name in names})
        if isinstance(count, int):
            return in_batches(call, inputs, count, full=True)
        return in_batches(call, inputs, batch_size)

    def _takes(self, inputs: Any, wanted: Any) -> bool:
        """Returns whether the inputs have the structure and shapes that the program requires."""
        if jax.tree.structure(inputs) != jax.tree.structure(wanted):
            return False
        return all(
            len(x.shape) == len(like.shape) and all(map(self._fits, x.shape[1:], like.shape[1:]))
            for x, like in zip(jax.tree.leaves(inputs), jax.tree.leaves(wanted))
        )

    def _fits(self, size: int, like: Any) -> bool:
        if isinstance(like, int):
            return size == like
        low, high = self.limits.get(str(like), (1, None))
        return low <= size and (high is None or size <= high)

    def _limits(self) -> str:
        words = [f"{name} up to {high}" for name, (_, high) in self.limits.items() if high]
        return f", {', '.join(words)}" if words else ""


def _convert(array: Any, wanted: Any) -> Any:
    """Converts an array to the training dtype; raises if an integer dtype would change numbers."""
    same = array.dtype == wanted.dtype or jnp.issubdtype(wanted.dtype, jnp.floating)
    converted = array.astype(wanted.dtype)
    if not same and not (converted == array).all():
        raise InvalidValue(
            "predict",
            f"the inputs do not fit into {wanted.dtype}, in which the run was trained",
            got=f"{array.dtype} from {array.min()} to {array.max()}",
            expected=f"numbers that {wanted.dtype} holds",
            fix="Prepare the inputs as those of the training were",
        )
    return converted


def _described(inputs: Any) -> str:
    return str(
        jax.tree.map(lambda x: f"{x.dtype}[{', '.join(str(n) for n in x.shape[1:])}]", inputs)
    )


@partial(jax.jit, static_argnums=0)
def _call(program: Any, arrays: Any, inputs: Any) -> Any:
    return program.call(arrays, inputs)


def write(run: Path, training: Training) -> None:
    """Writes the prediction program of a run, its columns, and the meaning of its outputs.

    Raises:
      OSError: if a file cannot be written. An export that fails only warns, with a `Caution`.
    """
    columns = training.sample.columns
    if columns is not None:
        files.write(run / COLUMNS, columns.to_json().encode())
    try:
        with alone(training.learner):  # the program must not depend on a mesh
            content = export(training).serialize()
    except Exception as error:
        (run / FILE).unlink(missing_ok=True)
        why = str(error).splitlines()[0]
        text = f"the run directory has no program to predict with: it cannot be exported ({why})"
        warnings.warn(text, Caution, stacklevel=2)
    else:
        program_file.write(run, bytes(content))
    files.write(run / MEANING, json_files.encode(_meaning(training), indent=1))


def _meaning(training: Training) -> dict[str, Any]:
    """Returns the kind of the outputs of a run, and their names in the objective."""
    try:
        state = jax.eval_shape(training.trials).state
        if training.layout.members is not None:
            state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), state)
        kind, bound = kind_of(training, state)[0], bind(training)
    except Exception:  # a custom learner may not support this
        return {"kind": "other", "names": []}
    return {"kind": kind, "names": [*bound.objective.names] if bound else []}


def export(training: Training) -> jax_export.Exported:
    """Exports the prediction program of a run or of one member."""
    learner, data = training.learner, training.sample
    hparams = {name: jax.ShapeDtypeStruct((), np.float32) for name in training.hparams}
    key = jax.ShapeDtypeStruct((), training.key.dtype)
    state = jax.eval_shape(partial(initial, learner), key, hparams, data)
    structure, names = jax.tree.structure(state), [*named_leaves(state)]
    leaves = jax.tree.leaves(state)
    batch = jax.eval_shape(lambda data: data.in_order(0), data)
    given = jax.eval_shape(partial(inputs_of, learner), state, batch)  # texts: all but the last

    def predict(arrays, inputs):
        # Arrays that the program does not read may have any value.
        whole = [arrays[n] if n in arrays else unread(leaf) for n, leaf in zip(names, leaves)]
        return learner.predict(jax.tree.unflatten(structure, whole), inputs)

    def of(count, platforms):
        inputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype), given)
        used = used_arrays(predict, dict(zip(names, leaves)), inputs)
        return jax_export.export(jax.jit(predict), platforms=platforms)(used, inputs)

    (free,) = jax_export.symbolic_shape("examples")
    here = (jax.default_backend(),)
    # A network may depend on a static number of examples, or on features of one platform.
    for count, platforms in ((free, PLATFORMS), (FIXED, PLATFORMS), (free, here)):
        try:
            return of(count, platforms)
        except Exception:
            continue
    return of(FIXED, here)


Bind = Callable[[Any], tuple[Network, Any, Any]]
"""A function from arrays by name to a network, its parameters and its state."""


def bound(training: Training) -> tuple[Bind, dict[str, Any], Any]:
    """Returns the `Bind` of a run, and the shapes of its arrays by name and of its state."""
    learner = training.learner
    hparams = {name: jax.ShapeDtypeStruct((), np.float32) for name in training.hparams}
    key = jax.ShapeDtypeStruct((), training.key.dtype)
    state = jax.eval_shape(partial(initial, learner), key, hparams, training.sample)
    structure, leaves = jax.tree.structure(state), named_leaves(state)

    def bind(arrays):
        # Arrays that a program does not read may have any value.
        own = jax.tree.unflatten(structure, [arrays.get(n, leaf) for n, leaf in leaves.items()])
        parts: Any = learner.parts
        return parts.network(own.hparams), learner.eval_params(own), own.state

    return bind, leaves, state


def check_network(predictor: Predictor, network: Network, params: Any, state: Any) -> None:
    """Raises `InvalidValue` if the outputs of a network differ from the trained network's."""
    inputs = jax.tree.map(sample_of, predictor.signature[1])
    wanted = predictor(inputs, TRIED)
    outputs = network.apply(params, state, inputs)[0]
    same = jax.tree.structure(outputs) == jax.tree.structure(wanted)
    pairs = zip(jax.tree.leaves(outputs), jax.tree.leaves(wanted)) if same else []
    if not same or not all(x.shape == y.shape and np.allclose(x, y, 1e-2, 1e-3) for x, y in pairs):
        raise InvalidValue(
            "load",
            "the network is not the one that was trained",
            got=f"outputs {_described(outputs)}, {_first(outputs)}",
            expected=f"outputs {_described(wanted)}, {_first(wanted)}",
            fix="Build it with the settings of the run, which loaded.config has",
        )


def _first(outputs: Any) -> str:
    return np.array2string(np.ravel(jax.tree.leaves(outputs)[0])[:4], precision=4)


def sample_of(leaf: Any) -> np.ndarray:
    """Returns `TRIED` deterministic examples with the shape and dtype of the training inputs."""
    shape = (TRIED, *leaf.shape[1:])
    numbers = np.arange(math.prod(shape)).reshape(shape)
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.sin(numbers).astype(leaf.dtype)
    return (numbers % 2).astype(leaf.dtype)


def unread(leaf: Any) -> Any:
    """Returns an array without memory in place of one that a program does not read.

    Its shape would do, but jax from 0.12 on keeps all arguments of functions within a program.
    """
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        with jax.ensure_compile_time_eval():
            key = jax.random.key(0)
            return jnp.broadcast_to(key, leaf.shape) if key.dtype == leaf.dtype else leaf
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def used_arrays(
    function: Callable[..., Any], arrays: dict[str, Any], inputs: Any
) -> dict[str, Any]:
    """Returns the arrays that the function reads, by name."""
    jaxpr = jax.make_jaxpr(function)(arrays, inputs).jaxpr
    read = _read(jaxpr)
    return {n: arrays[n] for n, var in zip(sorted(arrays), jaxpr.invars) if id(var) in read}


def _read(jaxpr: Any) -> set[int]:
    """Returns the ids of the variables that the equations of a jaxpr or its calls read."""
    read = {id(var) for var in jaxpr.outvars}
    for equation in jaxpr.eqns:
        called = equation.params.get("jaxpr") if equation.primitive.name in CALLS else None
        inner = called.jaxpr if called is not None else None
        within = None if inner is None else _read(inner)
        for place, var in enumerate(equation.invars):
            if inner is None or within is None or id(inner.invars[place]) in within:
                read.add(id(var))
    return read
