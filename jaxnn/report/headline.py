"""The headline metrics of a task.

They are the accuracy for classification, R² and the error in the unit of the labels for
regression, perplexity and bits per character for text, and the ranking metric otherwise.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from jaxnn.report.phrases import display_name, examples_of, figure
from jaxnn.storage.recording import Recording

BYTES = 256  # maximum size of a vocabulary of bytes or characters
# Pairs of a headline and a secondary metric; the first pair that is reported is used.
PAIRS = (("perplexity", "bits_per_byte"), ("accuracy", "loss"), ("mae", "r2"), ("loss", ""))


def reached(
    values: Mapping[str, Any], metric: str, recorded: Recording, examples: str | None = None
) -> str:
    """Returns the headline metrics on a dataset as a clause, for use after "the".

    Args:
      values: the metrics by name.
      metric: the ranking metric of the run, such as `"test/loss"`, which determines the dataset.
      recorded: the recording of the run, which determines the task.
      examples: a description of the dataset, with its size if that is known.
    """
    part = metric.partition("/")[0]
    on = examples or examples_of(part)

    def named(*names):
        shown = [figure(f"{part}/{name}", values.get(f"{part}/{name}")) for name in names]
        return shown if all(f"{part}/{name}" in values for name in names) else None

    if text := named("perplexity", "bits_per_byte"):
        unit = bits(recorded, values, part)
        return f"network reaches perplexity {text[0]}, {text[1]} {unit}, on {on}"
    classes = not recorded.about or recorded.about.get("classes")
    if (share := named("accuracy")) and classes:
        return f"network gets {share[0]} of the {on} right"
    if real := named("r2", "mae"):
        label = recorded.about.get("label")
        unit = f"in the unit of {label}" if label else "in labels' units"
        error = f"a mean absolute error of {real[1]}, {unit}"
        return f"network reaches R² {real[0]} and {error}, on {on}"
    return f"{display_name(metric)} is {figure(metric, values.get(metric))}"


def observed(recorded: Recording) -> str:
    """Returns the name of the dataset that was observed during training, such as "test"."""
    return str((recorded.about.get("probe") or {}).get("of") or "")


def leading(names: Collection[str]) -> tuple[str, str]:
    """Returns the headline metric among the metrics, and a secondary one or `""`.

    >>> leading(["accuracy", "loss"]), leading(["loss", "own"]), leading(["own"])
    (('accuracy', 'loss'), ('loss', ''), ('own', ''))
    """
    known = (pair for pair in PAIRS if {*filter(None, pair)} <= {*names})
    return next(known, (min(names, default=""), ""))


def confusion(recorded: Recording) -> np.ndarray | None:
    """Returns the confusion matrix of the final predictions, unless it is missing or empty."""
    counts = recorded.end.get("confusion")
    is_filled = counts is not None and counts.ndim == 2 and counts.sum() > 0
    return counts if is_filled else None


def bits(recorded: Recording, values: Mapping[str, Any], part: str) -> str:
    """Returns the unit of `bits_per_byte`: bits per token, unless the length of tokens is known."""
    perplexity, bits = (
        values.get(f"{part}/{name}", math.nan) for name in ("perplexity", "bits_per_byte")
    )
    real = all(isinstance(each, float) and each > 0 for each in (perplexity, bits))
    if not real or not math.isclose(math.log2(perplexity), bits, rel_tol=1e-3):
        return "bits per byte"
    return f"bits per {token(recorded)}"


def token(recorded: Recording) -> str:
    """Returns the name of a token: "character" if every token is a single character."""
    total = (recorded.about.get("table") or {}).get("total") or {}
    output = total.get("output") or []
    few = isinstance(output, list) and output and output[-1] <= BYTES
    return "character" if few else "token"
