"""Diagnoses a loss that is not finite: finds the step, the examples, the operation and its layer.

A report covers many steps, so the steps since the newest checkpoint are repeated with a check after
each. The state before the first bad step is saved as a checkpoint, from which the run can resume
with a change, and that step is repeated operation by operation.
"""

from collections import deque
from dataclasses import asdict
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnn import metrics as measures
from jaxnn.diagnosis.cause import nonfinite_of
from jaxnn.diagnosis.replay import first_not_finite
from jaxnn.driver.chunks import Training
from jaxnn.driver.feeding import feeding
from jaxnn.driver.placement import Progress
from jaxnn.driver.trial import Trial, is_good
from jaxnn.loop._advance import stepped
from jaxnn.loop._population import where
from jaxnn.scale.placement import alone
from jaxnn.storage import files
from jaxnn.storage.checkpointing import Checkpointer
from jaxnn.storage.checkpoints import QUARANTINE
from jaxnn.storage.json_files import encode
from jaxnn.typing import Any


def diagnose(
    training: Training,
    checkpointer: Checkpointer,
    rows: list[dict[str, Any]],
    metric: str,
    seconds: float,
) -> str:
    """Diagnoses a single run that is not finite, and writes `quarantine/nan-STEP/report.json`.

    The last of the reports `rows` is not finite: `metric` is the name of its loss, or
    `"a parameter"`. Returns the end of a sentence, such as `"first in step 12: log gave NaN ..."`.
    """
    saved, row, data = checkpointer.newest(), rows[-1], training.data
    step, trial = (saved[0]["step"], saved[1]) if saved else (0, training.start().trial)
    state = first_bad(training, trial, row["step"])
    first, finding, batch = None, None, []
    if state is not None:
        first = int(state.step)
        feed = feeding(training.layout, data, first + 1)
        examples = feed.at(first, [trial.order])[0][0].batch(state.step)
        feed.close()
        with alone(training.learner):
            finding = first_not_finite(training.learner.step, state, examples)
        batch = examples.get("index", [])
        if saved is None or first != step:  # else that state is saved already
            _save(training, checkpointer, training.start(trial, step), first, seconds, rows)
    name = f"nan-{row['step'] if first is None else first}"
    folder = checkpointer.directory.path / QUARANTINE / name
    known = (folder / "report.json").exists()
    epoch = row.get("epoch")  # a learner that makes its own data has none
    if first is not None and data.num_examples:
        epoch = first * data.batch_size / data.num_examples
    report = {
        "step": first,
        "reported": row["step"],
        "metric": metric,
        "value": nonfinite_of(row[metric]) if metric in row else None,
        "finding": finding and {**asdict(finding), "sentence": str(finding)},
        "batch": np.asarray(batch).tolist(),
        "epoch": epoch,
        "checkpoint": first,
        "replayed_from": step,
        "seconds": seconds,
        "again": known,
        "environment": checkpointer.environment,
    }
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / "report.json", encode(report, indent=1))
    if first is None:
        return f"no step from {step} to {row['step']} is the cause: check the evaluation data"
    why = f": {finding}" if finding else ", although its operations are finite when run separately"
    return f"first in step {first}{', as before' if known else ''}{why}"


def first_bad(training: Training, trial: Trial, end: int) -> Any:
    """Returns the state before the first non-finite step up to `end`; `None` if all are finite."""
    state, learner = jax.tree.map(jnp.array, trial.state), training.learner
    feed = feeding(training.layout, training.data, end)
    try:
        while int(state.step) < end:
            (data,), border = feed.at(int(state.step), [trial.order])
            if training.form == "looped":
                state, good = _until_bad(learner, state, data, np.int32(min(end, border)))
                if not bool(good):
                    return state
                continue
            before = jax.tree.map(jnp.array, state)
            window = measures.empty(training.metrics)
            state, window, _ = stepped(learner, state, window, data)
            if not bool(_is_good(state, window)):
                return before
        return None
    finally:
        feed.close()


_is_good = jax.jit(is_good)


@partial(jax.jit, static_argnums=0)
def _until_bad(learner, state, data, end):
    def step(carry):
        state, _ = carry
        after, metrics = learner.step(state, data.batch(state.step))
        good = is_good(after, metrics)
        return where(good, after, state), good

    return lax.while_loop(lambda c: c[1] & (c[0].step < end), step, (state, np.bool_(True)))


def _save(
    training: Training,
    checkpointer: Checkpointer,
    start: Progress,
    step: int,
    seconds: float,
    rows: list[dict[str, Any]],
) -> None:
    """Saves the state before a step as a checkpoint."""
    progress = deque(training.chunks(start, until=step), maxlen=1).pop() if step else start
    snapshot = checkpointer.snapshot(progress, now=True)
    if snapshot is not None:
        checkpointer.save(snapshot, seconds, [row for row in rows if row["step"] <= progress.step])
    checkpointer.wait()
