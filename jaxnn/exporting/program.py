"""The program of a model file: StableHLO, without the wrapper of `jax.export`, which expires.

jax reads what `jax.export` serialized for half a year; StableHLO in its portable form is read for
five years. A model file holds the StableHLO, and in JSON what else jax has to know: shapes, dtypes,
platforms, and which arguments the program reads. From these, jax of any version makes its own
wrapper: it exports a function of the same signature that computes nothing, and the file's
program takes the place of that function's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

from jaxnn.exporting.specs import Spec, from_json, shapes_of, specs_of, to_json

PLATFORMS = ("cpu", "cuda", "tpu")
# What a program may call beside StableHLO: names that jax promises to keep, and that compute.
# Callbacks into Python, and kernels in other languages, are not among them.
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
    """A program `(arrays, inputs) -> outputs`, as it is stored.

    Attributes:
      code: StableHLO, in its portable form.
      arrays: the specs of the arrays that it reads, by name.
      inputs: those of its inputs; the first axis is that of examples.
      outputs: those of its outputs.
      constraints: of the free sizes: `("length <= 64",)`.
      platforms: that it was lowered for, in order.
      reads: the numbers of the arguments that it takes.
      convention: the version of jax's calling convention.
    """

    code: bytes
    arrays: dict[str, Spec]
    inputs: Any
    outputs: Any
    constraints: tuple[str, ...]
    platforms: tuple[str, ...]
    reads: tuple[int, ...]
    convention: int

    def to_json(self) -> dict[str, Any]:
        """Returns all but the code as JSON holds it."""
        return {
            "arrays": to_json(self.arrays),
            "inputs": to_json(self.inputs),
            "outputs": to_json(self.outputs),
            "constraints": list(self.constraints),
            "platforms": list(self.platforms),
            "reads": list(self.reads),
            "convention": self.convention,
        }

    @classmethod
    def from_json(cls, content: Any, code: bytes) -> "Program":
        """Returns the program whose `to_json` is the content.

        Raises:
          ValueError, KeyError or TypeError: if there is none.
        """
        arrays = from_json(content["arrays"])
        if not isinstance(arrays, dict) or not all(isinstance(x, Spec) for x in arrays.values()):
            raise ValueError("arrays are not named")
        inputs, outputs = from_json(content["inputs"]), from_json(content["outputs"])
        constraints, platforms = (
            tuple(map(str, content[name])) for name in ("constraints", "platforms")
        )
        reads = tuple(int(number) for number in content["reads"])
        convention = int(content["convention"])
        return cls(code, arrays, inputs, outputs, constraints, platforms, reads, convention)

    def open(self) -> jax_export.Exported:
        """Returns the program as jax calls it.

        Raises:
          Exception: of any kind, if this version of jax cannot read it.
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
    """Returns what is stored of a program of `(arrays, inputs)`.

    Raises:
      ValueError: if it does more than compute, or needs several devices.
    """
    (arrays, inputs), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    if exported.ordered_effects or exported.unordered_effects:
        raise ValueError("it does more than compute: it prints, or calls Python")
    if exported.nr_devices != 1:
        raise ValueError(f"it is for {exported.nr_devices} devices")
    arrays, inputs, outputs = map(specs_of, (arrays, inputs, outputs))
    program = Program(
        bytes(exported.mlir_module_serialized), arrays, inputs, outputs, tuple(constraints),
        exported.platforms, exported.module_kept_var_idx, exported.calling_convention_version,
    )  # fmt: skip
    if calls := unsafe_calls(exported):
        raise ValueError(f"it calls {', '.join(calls)}, which is not StableHLO")
    return program


def unsafe_calls(exported: jax_export.Exported) -> list[str]:
    """Returns the names of what a program calls that may do more than compute."""
    text = exported.mlir_module()
    names = {a.strip('"') or b for a, b in _CALL.findall(text)} | set(_TALK.findall(text))
    return sorted(name for name in names if not SAFE_CALLS.fullmatch(name))
