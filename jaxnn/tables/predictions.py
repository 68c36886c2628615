"""The objective for the labels of a table, and the decoding of outputs into predictions."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.objectives import Objective, classification, multi_label, regression
from jaxnn.reading._read_table import import_polars
from jaxnn.typing import Any

Labels = Sequence[Any]  # Real, or Category for classes


def num_outputs(labels: Labels, task: str | None) -> int:
    """Returns the number of outputs of a network for the labels."""
    return len(labels[0].values) if task == "classification" else len(labels)


def objective_of(labels: Labels, task: str | None) -> Objective:
    """Returns the objective for the labels; it reports errors in the units of the labels."""
    if task == "classification":
        return classification()
    if task == "multi_label":
        return multi_label()
    base = regression()
    names = ["mae"] if len(labels) == 1 else [f"mae_{label.name}" for label in labels]

    def metrics(outputs, batch):
        predictions, targets = (x.reshape(len(x), -1) for x in (outputs, batch["labels"]))

        def mae(i):
            batch_of_one = {**batch, "labels": targets[:, i : i + 1]}
            metric = base.metrics(predictions[:, i : i + 1], batch_of_one)["mae"]
            total, weight = metric.sums
            return replace(metric, sums=(total * labels[i].scale.deviation, weight))

        maes = {name: mae(i) for i, name in enumerate(names)}
        return {"r2": base.metrics(outputs, batch)["r2"], **maes}

    return base._replace(metrics=metrics)


def decoded(labels: Labels, task: str | None, outputs: Any) -> Any:
    """Returns a data frame of predictions; see `Columns.decode`."""
    width = num_outputs(labels, task)
    polars = import_polars("decode")
    outputs = np.asarray(outputs, np.float64)
    if task == "regression" and outputs.ndim == 1:
        outputs = outputs[:, None]
    if not labels or outputs.ndim != 2 or outputs.shape[1] != width:
        raise InvalidValue(
            "decode",
            "the shape of the outputs does not match the labels",
            got=f"outputs of shape {outputs.shape}",
            expected=f"[rows, {width}]" if labels else "columns with labels",
            fix="Pass the predictions of a network with columns.outputs outputs",
        )
    if task == "classification":
        [label] = labels
        shares = np.exp(outputs - outputs.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        answers = polars.Series(label.name, label.values)[outputs.argmax(1).astype(np.uint32)]
        named = {f"probability of {name}": shares[:, i] for i, name in enumerate(label.labels)}
        return polars.DataFrame([answers, *(polars.Series(k, v) for k, v in named.items())])
    if task == "regression":
        return polars.DataFrame(
            {c.name: c.scale.decode(outputs[:, i]) for i, c in enumerate(labels)}
        )
    shares = 1 / (1 + np.exp(-outputs))
    marks = {c.name: outputs[:, i] > 0 for i, c in enumerate(labels)}
    named = {f"probability of {c.name}": shares[:, i] for i, c in enumerate(labels)}
    return polars.DataFrame(marks | named)
