"""Where the arrays of a run lie on a mesh: states by rules, batches by their rows."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnn.checks import InvalidValue
from jaxnn.names import matched, named_leaves
from jaxnn.scale._mesh import DATA
from jaxnn.scale.rules import Rules, Split
from jaxnn.typing import Any

_IGNORED = jax.make_user_context(False)


@contextmanager
def without_mesh() -> Iterator[None]:
    """Traces learners as they are without their mesh: what a run is does not depend on it."""
    with _IGNORED(True):
        yield


def is_placed() -> bool:
    """Returns whether learners are traced with their mesh."""
    return not _IGNORED.value


@dataclass(frozen=True)
class Placement:
    """A mesh and the rules for what lies where on it.

    Attributes:
      mesh: the devices, with the axes `data` and `model`.
      rules: for the parameters, by name.
    """

    mesh: Mesh
    rules: Rules

    @property
    def devices(self) -> tuple[Any, ...]:
        """The devices of all processes."""
        return tuple(self.mesh.devices.flat)

    @property
    def whole(self) -> NamedSharding:
        """The sharding of an array that lies whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def batches(self, tree: Any) -> Any:
        """Returns arrays `[batches, rows, ...]` of the host on the mesh, divided by their rows."""
        sharding = NamedSharding(self.mesh, PartitionSpec(None, DATA))

        def put(x):
            return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

        return jax.tree.map(put, tree)

    def replicated(self, tree: Any) -> Any:
        """Returns for each leaf that it lies whole on every device."""
        return jax.tree.map(lambda _: self.whole, tree)

    def shardings(self, state: Any) -> Any:
        """Returns the sharding of each array of a learner's state, or of a tree of parameters.

        What belongs to a parameter, such as its moments, ends with its name and lies as it does.

        Raises:
          InvalidValue: if a rule matches nothing, or splits an axis that does not divide.
        """
        leaves = named_leaves(state)
        params = named_leaves(getattr(state, "params", state))
        owners = {name: _owner(name, params) for name in leaves}
        matches = matched("shard", self.rules.pairs, owners.values(), strict=self.rules.strict)
        shardings = []
        for name, leaf in leaves.items():
            owner = owners[name]
            splits = matches[owner].value if owner in matches else ()
            own = owner in params and params[owner].shape == leaf.shape
            spec = self._spec(owner, leaf.shape, splits, strict=own and self.rules.strict)
            shardings.append(NamedSharding(self.mesh, spec))
        return jax.tree.unflatten(jax.tree.structure(state), shardings)

    def _spec(
        self, name: str, shape: tuple[int, ...], splits: tuple[Split, ...], *, strict: bool
    ) -> PartitionSpec:
        axes: list[str | None] = [None] * len(shape)
        for split in splits:
            count = self.mesh.shape[split.over]
            free = [
                axis for axis in range(len(shape)) if axes[axis] is None and not shape[axis] % count
            ]
            if split.axis is None:
                # Of equal axes the last: the first one may be that of layers, one after the other.
                axis = max(free, key=lambda axis: (shape[axis], axis), default=None)
                axis = None if math.prod(shape) < split.at_least else axis
            else:
                axis = split.axis + (len(shape) if split.axis < 0 else 0)
                axis = axis if axis in free else None
                if strict and axis is None:
                    raise InvalidValue(
                        "shard",
                        "a rule splits an axis that does not divide",
                        got=f"{split} for {name} of shape {list(shape)}, and {split.over}={count}",
                        expected=f"an axis of a multiple of {count}, which no other split has",
                        fix=f"Put a rule for it first, {{{name!r}: None}}, or write largest("
                        f"{split.over!r})",
                    )
            if axis is not None and count > 1:
                axes[axis] = split.over
        return PartitionSpec(*axes)

    def constrain(self, state: Any) -> Any:
        """Returns a state, or parameters, held to their place inside a program."""
        if not is_placed():
            return state
        return jax.lax.with_sharding_constraint(state, self.shardings(state))

    def rows(self, batch: Any) -> Any:
        """Returns a batch divided by its rows, inside a program."""
        if not is_placed() or self.mesh.shape[DATA] == 1:
            return batch
        sharding = NamedSharding(self.mesh, PartitionSpec(DATA))
        return jax.tree.map(
            lambda x: jax.lax.with_sharding_constraint(x, sharding) if x.ndim else x, batch
        )


def _owner(name: str, params: Mapping[str, Any]) -> str:
    """Returns the parameter that an array of the state belongs to, its longest end; else itself."""
    end = name
    while end not in params:
        _, slash, end = end.partition("/")
        if not slash:
            return name
    return end
