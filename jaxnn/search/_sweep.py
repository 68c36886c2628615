"""A sweep lists the runs to train: one column per hyper-parameter, one row per run.

>>> from jaxnn.search.ranges import log_range
>>> runs = sweep({"learning_rate": log_range(1e-3, 1e-1, 3), "batch_size": [32, 64]}, seeds=2)
>>> len(runs)
12
>>> runs.settings()[0]
{'learning_rate': 0.001, 'batch_size': 32, 'seed': 0}

Numeric hyper-parameters are inputs of the compiled program, so that many runs train as one
population. Values that change shapes, such as a batch size, are not: they split the sweep into
groups, each of which compiles once.

>>> for values, group in runs.groups(["batch_size"]):
...     print(values, len(group), list(group.hparams))
{'batch_size': 32} 6 ['learning_rate']
{'batch_size': 64} 6 ['learning_rate']
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, choice, positive_integer
from jaxnn.driver.members import numbers
from jaxnn.search.ranges import Draws, listed
from jaxnn.typing import Any, Array, Float, Int, Key


@dataclass(frozen=True)
class Sweep:
    """The runs to train, as returned by `sweep`.

    Attributes:
      columns: the values of each field, one per run, by name; the last column is `seed`.
    """

    columns: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.columns["seed"])

    @property
    def fields(self) -> list[str]:
        """The names of the swept fields, without the seed."""
        return [name for name in self.columns if name != "seed"]

    @property
    def key(self) -> Key[Array, "runs"]:
        """The PRNG keys of the runs, the `key` argument of `fit`."""
        return keys(self.columns["seed"])

    @property
    def hparams(self) -> dict[str, Float[np.ndarray, "runs"]]:
        """The hyper-parameters of the runs, the `hparams` argument of `fit`.

        Raises:
          InvalidType: if the values of a field are not numbers.
          InvalidValue: if float32 cannot hold one of them.
        """
        values = [(name, value) for name in self.fields for value in self.columns[name]]
        for name, value in values:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidType(
                    "sweep",
                    f"{name} cannot be an input of the compiled program",
                    got=f"{name}={value!r}",
                    expected="numbers",
                    fix=f"Train group by group, as sweep.groups([{name!r}]) gives them",
                )
        return {name: numbers(name, self.columns[name]) for name in self.fields}

    def settings(self) -> list[dict[str, Any]]:
        """Returns a dict of the fields and the seed for each run."""
        return [dict(zip(self.columns, row)) for row in zip(*self.columns.values())]

    def groups(self, names: Iterable[str]) -> list[tuple[dict[str, Any], "Sweep"]]:
        """Groups the runs by the values of the named fields.

        Returns:
          Pairs `(values, sweep)`, one for each combination of values, in order of first appearance.
          The sweep holds the runs of the group, without the named fields.
        """
        names = list(names)
        for name in names:
            choice("sweep", "field", name, self.fields)
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in self.settings():
            groups.setdefault(tuple(row.pop(name) for name in names), []).append(row)
        return [
            (dict(zip(names, values)), Sweep({name: [r[name] for r in rows] for name in rows[0]}))
            for values, rows in groups.items()
        ]


def sweep(
    fields: Mapping[str, Any],
    *,
    seeds: int | Iterable[int] | Int[np.ndarray, "seeds"] = 1,
    draw_seed: int = 0,
) -> Sweep:
    """Returns the product of the values of all fields and seeds; the seed varies fastest.

    Random fields are drawn jointly: draw `i` of each of them forms point `i` of a random search.
    Unlike a grid of the same size, this tries a new value of every field at every point.

    Args:
      fields: the values of each field by name: a list, or a range such as `log_range(...)`.
      seeds: the number of seeds, counted from 0, or the seeds themselves.
      draw_seed: the seed of random fields; each field also uses its name, so that draws of
        different fields are independent.

    Raises:
      Invalid: if a field has no values, or its values are invalid.
    """
    if "seed" in fields:
        raise InvalidValue(
            "sweep",
            "seeds are not a field",
            got="a field named seed",
            expected="seeds as a separate argument",
            fix="Pass seeds=8 or seeds=[3, 5]; on the command line --seeds 8",
        )
    counts = {name: draws.count for name, draws in fields.items() if isinstance(draws, Draws)}
    if len(set(counts.values())) > 1:
        raise InvalidValue(
            "sweep",
            "random fields have different numbers of draws",
            got=", ".join(f"{count} of {name}" for name, count in counts.items()),
            expected="the same count for each",
            fix=f"Draw {max(counts.values())} of each",
        )
    values = {
        name: each.values(name, draw_seed) if name in counts else listed(name, each)
        for name, each in fields.items()
    }
    values["seed"] = _seeds(seeds)
    # One axis of the product for each field, and one for all random fields.
    axes = {name: "random" if name in counts else f"field {name}" for name in values}
    lengths = {axis: len(values[name]) for name, axis in axes.items()}
    places = np.indices([*lengths.values()]).reshape(len(lengths), -1)
    place_of = dict(zip(lengths, places))
    return Sweep({name: [values[name][i] for i in place_of[axes[name]]] for name in values})


def keys(seed: Any) -> Key[Array, "*runs"]:
    """Returns the PRNG key of a seed, or an array of keys for a sequence of seeds.

    >>> print(keys([3, 4])[1] == keys(4))
    True
    """
    if np.ndim(seed) == 0:
        return jax.random.key(seed)
    return jax.vmap(jax.random.key)(np.asarray(seed, np.uint32))


def _seeds(seeds: Any) -> list[int]:
    if isinstance(seeds, int | np.integer):
        return list(range(positive_integer("sweep", "seeds", seeds)))
    which = [int(seed) for seed in seeds]
    if not which or len(set(which)) < len(which) or min(which) < 0 or max(which) >= 2**32:
        raise InvalidValue(
            "sweep",
            "seeds are invalid",
            got=f"seeds={which}",
            expected="one or more distinct whole numbers from 0 to 2**32 - 1",
            fix="Pass seeds=8 for the seeds 0 to 7",
        )
    return which
