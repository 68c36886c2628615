"""A case that laws are held over: something to try, what it is tried on, and what is exempt."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest


@dataclass(frozen=True, eq=False)
class Case:
    """Something that the laws hold for.

    Attributes:
      name: what the test is called.
      make: makes the thing: a network, an objective or a learner.
      data: what it is tried on: the inputs of a network, the fields of the data of the others.
      exempt: the laws that do not hold for it, and why.
      facts: what else a law needs to know about it.
      slow: whether its laws are slow, and others like it are tried among the quick tests.
      nightly: whether its laws are for the night, since others like it are tried by day.
    """

    name: str
    make: Callable[[], Any]
    data: Any
    exempt: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    slow: bool = False
    nightly: bool = False

    @property
    @cache
    def thing(self) -> Any:
        """The one thing that all laws look at, so that each program is compiled once."""
        # A law that asks for it first inside a traced function must not leave tracers in it.
        with jax.ensure_compile_time_eval():
            return self.make()


LAWS: set[str] = set()
"""The laws that there are, as `held` meets them."""


def held(cases: list[Case], law: str, *, seldom: Container[str] = ()) -> Any:
    """Parametrizes a law over its cases; the exempt ones are shown as skipped, with the reason.

    Those that are tried `seldom` are for the night.
    """
    LAWS.add(law)

    def marks(case):
        if law in case.exempt:
            return pytest.mark.skip(reason=case.exempt[law])
        if case.name in seldom:
            return pytest.mark.nightly
        return pytest.mark.nightly if case.nightly else pytest.mark.slow if case.slow else ()

    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=case.name, marks=marks(case)) for case in cases]
    )


def real(*shape: int, seed: int = 0) -> np.ndarray:
    """Returns normal draws, always the same ones."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def whole(below: int, *shape: int, dtype: Any = np.int32) -> np.ndarray:
    """Returns whole numbers from 0, always the same ones."""
    return np.random.default_rng(1).integers(0, below, shape).astype(dtype)
