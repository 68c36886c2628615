"""Which classes there are, as outputs and labels tell: one number may stand for two.

That number is a logit, as from `linear(1)`, or the probability of the second class, as behind a
sigmoid. Beside the labels 0 and 1 and an accuracy, the numbers themselves tell which.
"""

from typing import Any

import numpy as np

from jaxnn.storage.recording import Frame, Recording

POINTS = 1000  # as many as a recording keeps of what was said: of those there may be more
SAME = 0.005  # accuracies that differ by less may be of the same answers
OTHER = 0.02  # those that differ by more are not
_OUTPUTS = ("outputs", "boundary")


def with_classes(recorded: Recording) -> Recording:
    """Returns a recording whose `about` has the number of `classes`, `None` of other outputs.

    Where one number stands for two classes it is a logit then, and what is taken for what is
    counted too.
    """
    last = recorded.frames[-1].arrays if recorded.frames else {}
    outputs, labels = last.get("outputs"), recorded.probe.get("labels")
    classes = None
    if outputs is not None and labels is not None:
        if recorded.about.get("kind") == "classification":
            classes = max(2, *outputs.shape[1:])
        elif outputs.size == labels.size == len(outputs) and "metrics/accuracy" in last:
            classes = 2 if np.isin(labels, (0, 1)).all() else None
            if classes and _are_shares(recorded):
                recorded = _as_logits(recorded)
            elif classes and _are_halved(recorded, float(last["metrics/accuracy"])):
                classes = None
            if classes:
                recorded = recorded._replace(end=_counted(recorded.end))
    return recorded._replace(about={"classes": classes, **recorded.about})


def _are_shares(recorded: Recording) -> bool:
    """Whether all outputs are from 0 to 1: logits of both classes would not be."""
    seen = [frame.arrays.get(name, []) for frame in recorded.frames for name in _OUTPUTS]
    seen.append(recorded.end.get("predicted", []))
    known = np.concatenate([np.ravel(each).astype(float) for each in seen])
    known = known[np.isfinite(known)]
    return bool(len(known) and (known >= 0).all() and (known <= 1).all())


def _are_halved(recorded: Recording, accuracy: float) -> bool:
    """Whether the accuracy is that of numbers above a half, which were fitted to 0 and 1."""
    truth, said = _answers(recorded.end)
    if not len(truth):
        return False
    at_zero, at_half = (float(((said > bound) == (truth > 0)).mean()) for bound in (0.0, 0.5))
    return abs(at_half - accuracy) < SAME and abs(at_zero - accuracy) > OTHER


def _as_logits(recorded: Recording) -> Recording:
    def logit(array: Any) -> np.ndarray:
        share = np.clip(np.asarray(array, np.float64), 1e-12, 1 - 1e-12)
        return np.log(share) - np.log1p(-share)

    frames = [
        Frame(f.step, {n: logit(a) if n in _OUTPUTS else a for n, a in f.arrays.items()})
        for f in recorded.frames
    ]
    end = {n: logit(a) if n == "predicted" else a for n, a in recorded.end.items()}
    return recorded._replace(frames=frames, end=end)


def _counted(end: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns what is known at the end, with how often which class was taken for which."""
    truth, said = _answers(end)
    if not 0 < len(truth) < POINTS:
        return end
    counts = np.zeros((2, 2), np.int64)
    np.add.at(counts, ((truth > 0).astype(int), (said > 0).astype(int)), 1)
    return {"confusion": counts, **end}


def _answers(end: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels and the numbers that were said of them, none unless all are known."""
    truth, said = (np.ravel(end.get(name, [])).astype(float) for name in ("truth", "predicted"))
    known = len(truth) == len(said) and np.isin(truth, (0, 1)).all() and np.isfinite(said).all()
    return (truth, said) if known else (np.zeros(0), np.zeros(0))
