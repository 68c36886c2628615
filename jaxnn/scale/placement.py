"""Where the arrays of a run lie on a mesh: states by rules, batches by their rows."""

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
    """Traces learners as they are without their mesh: what a run is does not depend on it."""
    with _IGNORED(True):
        yield


def alone(learner: Any) -> AbstractContextManager[None]:
    """Traces a learner without its mesh, if it has one; else nothing is traced anew."""
    return without_mesh() if learner.placement else nullcontext()


def is_placed() -> bool:
    """Returns whether learners are traced with their mesh."""
    return not _IGNORED.value


_meshes: dict[tuple[Any, ...], Mesh] = {}


def forget_other_meshes(mesh: Mesh) -> None:
    """Forgets what is compiled if it may be for another mesh of the same devices.

    JAX takes arrays that lie whole on either for the same, and a program gives back arrays on the
    mesh that it was compiled for: what combines these with arrays of this mesh then fails.
    """
    devices = tuple(sorted(device.id for device in mesh.devices.flat))
    if _meshes.setdefault(devices, mesh) != mesh:
        _meshes[devices] = mesh
        jax.clear_caches()


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

    def placed(self, state: Any) -> Any:
        """Returns the shapes of a state, or of parameters, with the sharding of each array."""
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            state,
            self.shardings(state),
        )

    def constrain(self, state: Any) -> Any:
        """Returns a state, or parameters, held to their place inside a program."""
        if not is_placed():
            return state
        return jax.lax.with_sharding_constraint(state, self.shardings(state))

    def collect(self, tree: Any) -> Any:
        """Returns arrays held whole on every device, inside a program.

        What a program gives back it may otherwise split in a way that no mesh has a name for.
        """
        if not is_placed():
            return tree
        return jax.lax.with_sharding_constraint(tree, self.replicated(tree))

    def rows_at(self, axis: int, shape: tuple[int, ...]) -> NamedSharding:
        """Returns how an array lies that is divided by its rows along an axis, if they divide."""
        if len(shape) <= axis or shape[axis] % self.mesh.shape[DATA]:
            return self.whole
        return NamedSharding(self.mesh, PartitionSpec(*(None,) * axis, DATA))

    def rows(self, batch: Any) -> Any:
        """Returns a batch divided by its rows, inside a program; fewer than devices stay whole."""
        if not is_placed() or self.mesh.shape[DATA] == 1:
            return batch

        def held(x: Any) -> Any:
            if not x.ndim or x.shape[0] < self.mesh.shape[DATA]:
                return x
            # What lies along `model` XLA decides: the nodes of a split layer, for one.
            spec = PartitionSpec(DATA, *[PartitionSpec.UNCONSTRAINED] * (x.ndim - 1))
            return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))

        return jax.tree.map(held, batch)


def collected(learner: Any, tree: Any) -> Any:
    """Returns what a program computes for the host, whole on every device if there is a mesh."""
    return tree if learner.placement is None else learner.placement.collect(tree)


def copied(learner: Any, tree: Any) -> Any:
    """Returns arrays of the host whole on every device of the learner's mesh, if it has one.

    What lies nowhere yet, XLA may otherwise split in a way that no mesh has a name for.
    """
    placement = learner.placement
    return tree if placement is None else on_device(tree, placement.whole)


def on_device(tree: Any, device: Any) -> Any:
    """Returns the tree on a device or with a sharding, or where it is if that is `None`."""
    # Leaf by leaf: as a whole, jax 0.7.2 makes trees of placeholders too, which checks refuse.
    there = jax.tree.map(lambda x: _put(x, device), tree)
    return with_columns(there, tree.columns) if isinstance(tree, Resident) else there


def _put(array: Any, device: Any) -> Any:
    if not isinstance(device, Sharding) or device.is_fully_addressable:
        return jax.device_put(array, device)
    # Every process has the array, and puts what falls to its devices there, without a message.
    if isinstance(array, jax.Array) and array.sharding.is_equivalent_to(device, array.ndim):
        return array
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(array), device)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, device, lambda index: np.array(whole[index]))


def owner_of(name: str, params: Mapping[str, Any]) -> str:
    """Returns the parameter that an array of the state belongs to, its longest end; else itself."""
    end = name
    while end not in params:
        _, slash, end = end.partition("/")
        if not slash:
            return name
    return end
