"""Executes the programs of runs and model files for any number of examples."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxnn.checks import Explained, InvalidType, InvalidValue
from jaxnn.data._resident import stored
from jaxnn.formatting import first_line
from jaxnn.loop._evaluate import in_batches
from jaxnn.masked import Masked
from jaxnn.storage import program_file
from jaxnn.storage.program_file import FILE
from jaxnn.tables import Columns
from jaxnn.typing import Any

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

    @property
    def outputs(self) -> Any:
        """The shapes of the outputs."""
        return jax.tree.unflatten(self.program.out_tree, self.program.out_avals)

    @property
    def own(self) -> dict[str, Any]:
        """The arrays that the program reads, by name."""
        return {name: self.arrays[name] for name in self.signature[0]}

    def predict(self, inputs: Any, batch_size: int, columns: Columns | None) -> Any:
        """Returns the outputs for any number of inputs; for the rows of a table, decoded ones."""
        if columns is None:
            return self("predict", inputs, batch_size)
        rows = columns.encode(inputs, labels=False)
        return columns.decode(self("predict", rows["inputs"], batch_size))

    def __call__(self, where: str, inputs: Any, batch_size: int) -> Any:
        """Returns the outputs for any number of inputs as NumPy arrays.

        Raises:
          InvalidType, InvalidValue: see `accept`.
        """
        inputs = self.accept(where, inputs)
        count = jax.tree.leaves(self.signature[1])[0].shape[0]
        call = partial(_call, self.program, self.own)
        if isinstance(count, int):
            return in_batches(call, inputs, count, full=True)
        return in_batches(call, inputs, batch_size)

    def accept(self, where: str, inputs: Any) -> Any:
        """Returns inputs in the dtypes of the program.

        Raises:
          InvalidType: if the inputs do not have the structure, shapes and dtypes of training.
          InvalidValue: if a number is out of the range of the training dtype.
        """
        wanted = self.signature[1]
        inputs = stored(where, {"inputs": inputs})["inputs"]
        if not self._takes(inputs, wanted):
            raise InvalidType(
                where,
                "the inputs are not such as the run was trained on",
                got=f"examples of {describe(inputs)}",
                expected=f"examples of {describe(wanted)}" + self._limits(),
                fix="Pass an axis of examples first, and then what the data of the training had",
            )
        return jax.tree.map(_convert, inputs, wanted)

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
    """Converts an array to the training dtype; raises if the numbers do not fit into it."""
    if array.dtype == wanted.dtype:
        return array
    with np.errstate(over="ignore"):
        converted = array.astype(wanted.dtype)
    real = jnp.issubdtype(wanted.dtype, jnp.floating)
    if not (jnp.isfinite(converted) if real else converted == array).all():
        raise InvalidValue(
            "predict",
            f"the inputs do not fit into {wanted.dtype}, in which the run was trained",
            got=f"{array.dtype} from {array.min()} to {array.max()}",
            expected=f"numbers that {wanted.dtype} holds",
            fix="Prepare the inputs as those of the training were",
        )
    return converted


def describe(inputs: Any) -> str:
    """Formats the dtypes and shapes of examples as text, such as `uint8[28, 28]`."""
    return str(
        jax.tree.map(lambda x: f"{x.dtype}[{', '.join(str(n) for n in x.shape[1:])}]", inputs)
    )


@partial(jax.jit, static_argnums=0)
def _call(program: Any, arrays: Any, inputs: Any) -> Any:
    return program.call(arrays, inputs)


def read_program(run: Path) -> jax_export.Exported:
    """Returns the prediction program of a run, `(arrays, inputs) -> outputs`.

    Raises:
      NoProgram: if there is no program, or this version of JAX cannot read it.
      CorruptFile: if the file has changed since it was written.
    """
    fix = "Apply the network: network.apply(loaded.params, loaded.state, inputs)"
    content = program_file.read(run)
    if content is None:
        raise NoProgram(
            "load",
            "the run has no program to predict with",
            got=f"no {FILE} in {run}",
            expected="one, which fit writes if it is given data",
            fix=fix,
        )
    try:
        return jax_export.deserialize(bytearray(content))
    except Exception as error:
        raise NoProgram(
            "load",
            f"{run / FILE} cannot be read by jax {jax.__version__}",
            got=first_line(error),
            expected="a program that a version of jax of at most six months before wrote",
            fix=f"Use the version that the run names. {fix}",
        ) from error


def read_optional(run: Path, name: str) -> jax_export.Exported | None:
    """Returns a program of a run; `None` if there is none, or it cannot be read."""
    try:
        content = program_file.read(run, name)
        return jax_export.deserialize(bytearray(content)) if content else None
    except Exception:  # predictions do not require it
        return None
