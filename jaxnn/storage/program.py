"""A stored program: StableHLO, without the short-lived wrapper of `jax.export`.

JAX can read a serialized `jax.export` for six months, and portable StableHLO for five years. Run
directories and model files therefore contain the StableHLO, and as JSON the other information that
JAX needs: shapes, dtypes, platforms, and the arguments that the program reads. To open it, any
version of JAX builds its own wrapper: it exports a placeholder function with the same signature,
and replaces the program of the placeholder by the stored one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

from jaxnn.storage.specs import Spec, from_json, shapes_of, specs_of, to_json

# The custom calls that a program may contain: JAX guarantees that their names are stable, and they
# only compute. Python callbacks and kernels in other languages are not allowed.
SAFE_CALLS = re.compile(
    r"Sharding|SPMDFullToShardShape|SPMDShardToFullShape|annotate_device_placement|shape_assertion"
    r"|(cu|hip)_threefry2x32_ffi|Eigh|Qr|ProductOfElementaryHouseholderReflectors|LuDecomposition"
    r"|ApproxTopK|AllocateBuffer|(stablehlo|mhlo)\.[a-z_.]+|lapack_[a-z]+(_ffi)?"
    r"|(cu|hip)solver_[a-z]+(_ffi)?|(cu|hip)_lu_pivots_to_permutation"
)
_CALL = re.compile(r'custom_call\s*@("(?:[^"\\]|\\.)*"|[\w$.-]+)|call_target_name\s*=\s*"([^"]*)"')

_TALK = re.compile(r'"?stablehlo\.(send|recv|infeed|outfeed)\b')


@dataclass(frozen=True)
class Program:
    """A stored program `(arrays, inputs) -> outputs`.

    Attributes:
      code: the program as portable StableHLO.
      arrays: the specs of the arrays that the program reads, by name.
      inputs: the specs of the inputs; their first axis is the batch.
      outputs: the specs of the outputs.
      constraints: the constraints on dynamic sizes, such as `("length <= 64",)`.
      platforms: the platforms that the program was lowered for, in order.
      reads: the indices of the arguments that the program reads.
      convention: the version of the calling convention of JAX.
    """

    code: bytes
    arrays: dict[str, Spec]
    inputs: Any
    outputs: Any
    constraints: tuple[str, ...]
    platforms: tuple[str, ...]
    reads: tuple[int, ...]
    convention: int

    @property
    def limits(self) -> dict[str, tuple[int, int | None]]:
        """The minimum and maximum of each bounded dynamic size, such as `{"length": (1, 64)}`."""
        pairs = (constraint.split(" <= ") for constraint in self.constraints)
        return {size: (1, int(most)) for size, most in pairs if most.isdecimal()}

    def to_json(self) -> dict[str, Any]:
        """Returns all fields except the code as a JSON-compatible dict."""
        rest = {each.name: getattr(self, each.name) for each in fields(self)[1:]}
        return rest | {name: to_json(rest[name]) for name in ("arrays", "inputs", "outputs")}

    @classmethod
    def from_json(cls, content: Any, code: bytes) -> "Program":
        """Returns the program from its code and the output of `to_json`.

        Raises:
          ValueError, KeyError or TypeError: if the content is invalid.
        """
        arrays = from_json(content["arrays"])
        if not isinstance(arrays, dict) or not all(isinstance(x, Spec) for x in arrays.values()):
            raise ValueError("arrays are not named")
        return cls(
            code,
            arrays,
            inputs=from_json(content["inputs"]),
            outputs=from_json(content["outputs"]),
            constraints=tuple(map(str, content["constraints"])),
            platforms=tuple(map(str, content["platforms"])),
            reads=tuple(map(int, content["reads"])),
            convention=int(content["convention"]),
        )

    @cached_property
    def exported(self) -> jax_export.Exported:
        """The program in the form that JAX calls, which is built on first use.

        Raises:
          Exception: an error of any type, if this version of JAX cannot open the program.
        """
        scope = jax_export.SymbolicScope(self.constraints)
        arrays, inputs = (shapes_of(tree, scope) for tree in (self.arrays, self.inputs))
        outputs = shapes_of(self.outputs, scope)

        def like(arrays, inputs):
            return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), outputs)

        wrapper = jax_export.export(jax.jit(like), platforms=self.platforms)(arrays, inputs)
        return replace(
            wrapper,
            fun_name="predict",
            mlir_module_serialized=self.code,
            module_kept_var_idx=self.reads,
            calling_convention_version=self.convention,
        )


def program_of(exported: jax_export.Exported, constraints: Sequence[str] = ()) -> Program:
    """Returns the `Program` of an exported function `(arrays, inputs) -> outputs`.

    Raises:
      ValueError: if the function has side effects or needs several devices, or its arrays have
        dtypes that cannot be stored.
      TypeError: if inputs or outputs are a tree that cannot be stored, see `specs.to_json`.
    """
    (arrays, inputs), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    if exported.ordered_effects or exported.unordered_effects:
        raise ValueError("it does more than compute: it prints, or calls Python")
    if exported.nr_devices != 1:
        raise ValueError(f"it is for {exported.nr_devices} devices")
    # The conversion raises for what could not be read again.
    arrays, inputs, outputs = (
        from_json(to_json(specs_of(tree))) for tree in (arrays, inputs, outputs)
    )
    return Program(
        bytes(exported.mlir_module_serialized), arrays, inputs, outputs, tuple(constraints),
        exported.platforms, exported.module_kept_var_idx, exported.calling_convention_version,
    )  # fmt: skip


def unsafe_calls(exported: jax_export.Exported) -> list[str]:
    """Returns the names of the calls in a program that may have side effects."""
    text = exported.mlir_module()
    names = {a.strip('"') or b for a, b in _CALL.findall(text)} | set(_TALK.findall(text))
    return sorted(name for name in names if not SAFE_CALLS.fullmatch(name))
