"""Trains many fits as a few populations: collects the problems, and then looks up the outcomes.

A search fits an estimator for each setting and fold. Within `collected()`, a fit records its
`Problem` instead of solving it; within `solved(problems)`, a fit looks up the outcome that a
population has computed. Everything else, such as pipelines and scores, is done by scikit-learn.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from jaxnn.sklearn.outcome import Outcome, Problem, solve, solve_together
from jaxnn.typing import Any

_COLLECTED: ContextVar[list[Problem] | None] = ContextVar("collected", default=None)
_SOLVED: ContextVar[dict[Any, Outcome] | None] = ContextVar("solved", default=None)


def outcome_of(problem: Problem, *, verbose: bool = False) -> Outcome | None:
    """Returns the outcome of a problem, or `None` within `collected()`."""
    collected, solved = _COLLECTED.get(), _SOLVED.get()
    if collected is not None:
        # Problems with equal examples share their arrays.
        first = next((each for each in collected if each.digest == problem.digest), problem)
        collected.append(replace(problem, arrays=first.arrays))
        return None
    outcome = solved.get(problem.identity) if solved else None
    return outcome or solve(problem, verbose=verbose)


@contextmanager
def collected() -> Iterator[list[Problem]]:
    """Collects the problems of all fits in the `with` block; their estimators remain unfitted."""
    problems: list[Problem] = []
    token = _COLLECTED.set(problems)
    try:
        yield problems
    finally:
        _COLLECTED.reset(token)


@contextmanager
def solved(problems: list[Problem]) -> Iterator[None]:
    """Solves problems, one population per group, for the fits in the `with` block to look up."""
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
