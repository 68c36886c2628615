"""Executes the programs of runs and model files for any number of examples."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.export import Exported

from jaxnn.checks import Explained, InvalidType, InvalidValue
from jaxnn.data._resident import stored
from jaxnn.formatting import reason
from jaxnn.loop._evaluate import in_batches
from jaxnn.storage.program import Program
from jaxnn.tables import Columns
from jaxnn.typing import Any


class NoProgram(Explained):
    """There is no program to predict with that this version of JAX can read."""


@dataclass(frozen=True)
class Executable:
    """A program `(arrays, inputs) -> outputs` with its arrays, for any number of inputs.

    Attributes:
      program: the stored program.
      arrays: the arrays by name; they may include arrays that the program does not read.
      origin: where the program is from, for errors.
    """

    program: Program = field(repr=False)
    arrays: Mapping[str, Any] = field(repr=False)
    origin: str = "this model"

    @cached_property
    def exported(self) -> Exported:
        """The program in the form that JAX calls.

        Raises:
          NoProgram: if this version of JAX cannot read the program.
        """
        try:
            exported = self.program.exported
            exported.mlir_module()  # reads it
        except Exception as error:
            raise NoProgram(
                "load",
                f"the program of {self.origin} cannot be read by jax {jax.__version__}",
                got=reason(error),
                expected="one that this version of jax or an older one wrote",
                fix="Use the version of jax that wrote it, or a newer one",
            ) from error
        return exported

    @property
    def signature(self) -> tuple[dict[str, Any], Any]:
        """The shapes of arrays and inputs; the first axis of inputs is `FIXED` or symbolic."""
        return jax.tree.unflatten(self.exported.in_tree, self.exported.in_avals)[0]

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
        call = partial(_call, self.exported, self.own)
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
        low, high = self.program.limits.get(str(like), (1, None))
        return low <= size and (high is None or size <= high)

    def _limits(self) -> str:
        words = [f"{name} up to {high}" for name, (_, high) in self.program.limits.items() if high]
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
def _call(exported: Any, arrays: Any, inputs: Any) -> Any:
    return exported.call(arrays, inputs)
