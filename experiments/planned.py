"""Plans an experiment: `--plan HARDWARE` compiles it for hardware that need not be present.

Runs the experiment up to the point where it reads a result, with a `fit` that does not train.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jaxnn
from jaxnn import planning

# Options that only `fit` takes, and those about the run directory and execution.
_OF_FIT = ("out", "quiet", "saving", "not_finite", "execution")


def plans(
    main: Callable[..., Any], config: Any, hardware: str
) -> Iterator[tuple[planning.Plan, tuple[planning.Proposal, ...]]]:
    """Yields the plan of each program of an experiment, with proposals if it does not fit.

    Args:
      main: the experiment's `main`.
      config: the experiment's configuration.
      hardware: a name, see `jaxnn.plan`.
    """
    for learner, data, options in fits(main, config):
        plan = jaxnn.plan(learner, data, hardware, fast=True, **options)
        proposals = () if plan.fits else planning.propose(learner, data, hardware, **options)
        yield plan, proposals


def fits(main: Callable[..., Any], config: Any) -> list[tuple[Any, Any, dict[str, Any]]]:
    """Returns the arguments of the experiment's calls of `fit`, up to where it needs a result.

    Each entry is `(learner, data, options)`, with the options that `jaxnn.plan` takes.
    """
    given: dict[str, tuple[Any, Any, dict[str, Any]]] = {}

    def fit(learner, data, **options):
        options = {k: v for k, v in options.items() if k not in _OF_FIT and v is not None}
        rules, mesh = options.pop("rules", None), options.pop("mesh", None)
        training = jaxnn.train(learner, data, **options)
        taken = {k: v for k, v in options.items() if k in ("hparams", "key", "start")}
        taken |= {"rules": rules} if rules is not None else {}
        taken |= {"model": mesh.shape["model"]} if mesh is not None else {}
        given.setdefault(str(training.program), (learner, data, taken))
        state = training.trials().state if training.layout.members is None else None
        members = training.layout.members
        return SimpleNamespace(state=state, best=state, result={}, out=None, members=members)

    with tempfile.TemporaryDirectory() as folder, _instead(fit), redirect_stdout(StringIO()):
        try:
            main(config, jaxnn.Directory(Path(folder) / "run", "plan", config))
        except Exception:  # the experiment reads a result that does not exist
            if not given:
                raise
    return [*given.values()]


@contextmanager
def _instead(fit: Callable[..., Any]) -> Iterator[None]:
    """Replaces `jaxnn.fit`, which experiments look up when they call it."""
    ours = jaxnn.fit
    jaxnn.fit = fit
    try:
        yield
    finally:
        jaxnn.fit = ours
