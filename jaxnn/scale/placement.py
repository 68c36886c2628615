"""Places the arrays of a run on a mesh: states by rules, and batches by rows."""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from jaxnn.checks import InvalidValue
from jaxnn.data._resident import Resident, with_columns
from jaxnn.names import listing, matched, named_leaves
from jaxnn.scale._mesh import DATA
from jaxnn.scale.rules import Rules, Split
from jaxnn.typing import Any

_IGNORED = jax.make_user_context(False)


@contextmanager
def without_mesh() -> Iterator[None]:
    """Traces learners without their mesh, because the identity of a run does not depend on it."""
    with _IGNORED(True):
        yield


def alone(learner: Any) -> AbstractContextManager[None]:
    """Traces a learner without its mesh; for a learner without a mesh, it does nothing."""
    return without_mesh() if learner.placement else nullcontext()


def is_placed() -> bool:
    """Returns whether learners are traced with their mesh."""
    return not _IGNORED.value


_meshes: dict[tuple[Any, ...], Mesh] = {}


def forget_other_meshes(mesh: Mesh) -> None:
    """Clears the caches of JAX if programs may be compiled for another mesh of the same devices.

    JAX treats arrays that are replicated on either mesh as equal, but a program returns arrays on
    the mesh that it was compiled for. Combining these with arrays on this mesh then fails.
    """
    devices = tuple(sorted(device.id for device in mesh.devices.flat))
    if _meshes.setdefault(devices, mesh) != mesh:
        _meshes[devices] = mesh
        jax.clear_caches()


@dataclass(frozen=True)
class Placement:
    """A mesh and the rules that shard the arrays of a state over it.

    Attributes:
      mesh: the devices, with the axes `data` and `model`.
      rules: the rules for the parameters, by name.
    """

    mesh: Mesh
    rules: Rules

    @property
    def devices(self) -> tuple[Any, ...]:
        """The devices of all processes."""
        return tuple(self.mesh.devices.flat)

    @property
    def whole(self) -> NamedSharding:
        """The sharding of an array that is replicated on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def replicated(self, tree: Any) -> Any:
        """Returns the replicated sharding for each leaf of a tree."""
        return jax.tree.map(lambda _: self.whole, tree)

    def shardings(self, state: Any) -> Any:
        """Returns the sharding of each array of a learner's state, or of a tree of parameters.

        An array whose name ends with the name of a parameter, such as a moment, is sharded as the
        parameter is.

        Raises:
          InvalidValue: if a rule matches nothing, or splits an axis that does not divide evenly.
        """
        leaves = named_leaves(state)
        params = named_leaves(getattr(state, "params", state))
        owners = {name: owner_of(name, params) for name in leaves}
        matches = matched("shard", self.rules.pairs, owners.values(), strict=self.rules.strict)
        if not matches and self.rules.pairs:
            raise InvalidValue(
                "shard",
                f"the rules {self.rules.name} match no parameter",
                got=f"parameters {listing(params)}",
                expected="names that one of their patterns matches",
                fix="Write rules for this network, {'layer/weight': split(-1, 'model')}, or pass"
                " fsdp",
            )
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
                # Of equal axes, take the last: the first may be the axis of layers.
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

    def placed(self, state: Any) -> Any:
        """Returns the shapes of a state or of parameters, with the sharding of each array."""
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            state,
            self.shardings(state),
        )

    def constrain(self, state: Any) -> Any:
        """Constrains a state or parameters to their shardings, inside a program."""
        if not is_placed():
            return state
        return jax.lax.with_sharding_constraint(state, self.shardings(state))

    def collect(self, tree: Any) -> Any:
        """Constrains arrays to be replicated on every device, inside a program.

        Without the constraint, XLA may return them in a sharding that no mesh can express.
        """
        if not is_placed():
            return tree
        return jax.lax.with_sharding_constraint(tree, self.replicated(tree))

    def rows_at(self, axis: int, shape: tuple[int, ...]) -> NamedSharding:
        """Returns the sharding of an array split along `axis`, replicated if it does not divide."""
        if len(shape) <= axis or shape[axis] % self.mesh.shape[DATA]:
            return self.whole
        return NamedSharding(self.mesh, PartitionSpec(*(None,) * axis, DATA))

    def rows(self, batch: Any) -> Any:
        """Constrains a batch to be split by rows, inside a program.

        Arrays with fewer rows than the `data` axis has devices are not constrained.
        """
        if not is_placed() or self.mesh.shape[DATA] == 1:
            return batch

        def held(x: Any) -> Any:
            if not x.ndim or x.shape[0] < self.mesh.shape[DATA]:
                return x
            # XLA chooses the other axes, such as the nodes of a layer that is split over `model`.
            spec = PartitionSpec(DATA, *[PartitionSpec.UNCONSTRAINED] * (x.ndim - 1))
            return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))

        return jax.tree.map(held, batch)


def collected(learner: Any, tree: Any) -> Any:
    """Replicates what a program computes for the host, if the learner has a mesh."""
    return tree if learner.placement is None else learner.placement.collect(tree)


def copied(learner: Any, tree: Any) -> Any:
    """Replicates arrays of the host on the learner's mesh, if it has one.

    Without a sharding, XLA may otherwise split them in a way that no mesh can express.
    """
    placement = learner.placement
    return tree if placement is None else on_device(tree, placement.whole)


def on_device(tree: Any, device: Any) -> Any:
    """Moves a tree to a device or sharding; with `None`, JAX arrays stay where they are."""
    # Leaf by leaf: for a whole tree, jax 0.7.2 also builds trees of placeholders, and checks fail.
    there = jax.tree.map(lambda x: _put(x, device), tree)
    return with_columns(there, tree.columns) if isinstance(tree, Resident) else there


def _put(array: Any, device: Any) -> Any:
    if not isinstance(device, Sharding) or device.is_fully_addressable:
        return jax.device_put(array, device)
    # Every process has the whole array, and copies the parts for its own devices from it.
    if isinstance(array, jax.Array) and array.sharding.is_equivalent_to(device, array.ndim):
        return array
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(array), device)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, device, lambda index: np.array(whole[index]))


def owner_of(name: str, params: Mapping[str, Any]) -> str:
    """Returns the parameter whose name is the longest suffix of `name`, or `name` if none is."""
    end = name
    while end not in params:
        _, slash, end = end.partition("/")
        if not slash:
            return name
    return end
