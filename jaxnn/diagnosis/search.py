"""Diagnoses a loss that is not finite: finds the step, the examples, the operation and its layer.

A report covers many steps, so the steps since the newest checkpoint are repeated with a check after
each. The state before the first bad step is saved as a checkpoint, from which the run can resume
with a change, and that step is repeated operation by operation. On several devices, all of them
search for the step, and one device of the first process repeats it.
"""

from collections import deque
from contextlib import closing
from dataclasses import asdict
from functools import partial

import jax
import numpy as np
from jax import lax

from jaxnn import metrics as measures
from jaxnn.diagnosis.cause import nonfinite_of
from jaxnn.diagnosis.replay import first_not_finite
from jaxnn.driver.chunks import Training
from jaxnn.driver.placement import Progress
from jaxnn.driver.trial import is_good
from jaxnn.learning._learner import Learner
from jaxnn.loop._advance import copy_arrays, stepped
from jaxnn.loop._population import where
from jaxnn.scale import processes
from jaxnn.scale.memory import available, size
from jaxnn.scale.placement import alone, collected
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
    first, step_inputs = None, ()
    if state is not None:
        first = int(state.step)
        feed = training.feed(training.layout, first + 1)
        (batches,), _ = feed.at(first, [trial.order])
        step_inputs = _on_one_device(training.learner, state, batches)
        feed.close()
        if saved is None or first != step:  # else that state is saved already
            _save(training, checkpointer, training.start(trial, step), first, seconds, rows)

    def write_report() -> str:
        finding, batch = None, []
        if step_inputs:
            with alone(training.learner):
                finding = first_not_finite(training.learner.step, *step_inputs)
            batch = step_inputs[1].get("index", [])
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
            "repeated": bool(step_inputs),
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
        why = "although its operations are finite when run separately"
        why = why if step_inputs else "but its arrays do not fit on one device to repeat it"
        why = f": {finding}" if finding else f", {why}"
        return f"first in step {first}{', as before' if known else ''}{why}"

    return processes.agree("diagnosis", write_report)


def first_bad(training: Training, trial: Any, end: int) -> Any:
    """Returns the state before the first non-finite step up to `end`; `None` if all are finite."""
    state, learner = copy_arrays(trial.state), training.learner
    with closing(training.feed(training.layout, end)) as feed:
        while int(state.step) < end:
            (data,), border = feed.at(int(state.step), [trial.order])
            if training.form == "looped":
                state, good = _until_bad(learner, state, data, np.int32(min(end, border)))
                if not bool(good):
                    return state
                continue
            before = copy_arrays(state)
            window = measures.empty(training.metrics)
            state, window, _ = stepped(learner, state, window, data)
            if not bool(_is_good(state, window)):
                return before
    return None


_is_good = jax.jit(is_good)


@partial(jax.jit, static_argnums=0)
def _step_inputs(learner, state, data):
    return collected(learner, (state, data.batch(state.step)))


def _on_one_device(learner: Learner, state: Any, data: Any) -> tuple[Any, ...]:
    """Returns a state and the batch of its step on one device; nothing if they do not fit on it."""
    if learner.placement is None:
        return state, data.batch(state.step)
    if not processes.agree("fits", lambda: size(state) <= available(jax.local_devices()[0])):
        return ()
    return jax.tree.map(lambda x: x.addressable_data(0), _step_inputs(learner, state, data))


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
