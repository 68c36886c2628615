"""Many fits as few populations: problems are collected first, trained together, and then looked up.

A search fits an estimator for each setting and fold. Within `collected()` a fit notes its `Problem`
instead of solving it, and within `solved(problems)` it finds the outcome that a population has
come to. So pipelines, scores and whatever else happens between fits are those of scikit-learn.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from jaxnn.sklearn.outcome import Outcome, Problem, solve, solve_together
from jaxnn.typing import Any


class Problems(list[Problem]):
    """A list of problems, in which equal examples are there once."""

    def __init__(self):
        super().__init__()
        self.arrays: dict[bytes, Any] = {}

    def append(self, problem: Problem) -> None:
        """Adds a problem."""
        arrays = self.arrays.setdefault(problem.digest, problem.arrays)
        super().append(replace(problem, arrays=arrays))


_COLLECTED: ContextVar[Problems | None] = ContextVar("collected", default=None)
_SOLVED: ContextVar[dict[Any, Outcome] | None] = ContextVar("solved", default=None)


def outcome_of(problem: Problem, *, verbose: bool = False) -> Outcome | None:
    """Returns the outcome of a problem, or `None` where problems are only collected."""
    collected, solved = _COLLECTED.get(), _SOLVED.get() or {}
    if collected is not None:
        collected.append(problem)
        return None
    outcome = solved.get(problem.identity) if solved else None
    return outcome or solve(problem, verbose=verbose)


@contextmanager
def collected() -> Iterator[Problems]:
    """Collects the problems of all fits within; the estimators remain unfitted."""
    problems = Problems()
    token = _COLLECTED.set(problems)
    try:
        yield problems
    finally:
        _COLLECTED.reset(token)


@contextmanager
def solved(problems: list[Problem]) -> Iterator[None]:
    """Solves problems, one population for each group; fits within find the outcomes."""
    groups: dict[Any, dict[Any, Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.group, {})[problem.identity] = problem
    outcomes = {}
    for members in groups.values():
        outcomes |= zip(members, solve_together(list(members.values())))
    token = _SOLVED.set(outcomes)
    try:
        yield
    finally:
        _SOLVED.reset(token)
