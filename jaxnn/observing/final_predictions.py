"""The predictions of a trained network on the data that it is evaluated on.

Outputs alone are brought to the host, batch by batch; of the examples only those that are worth
looking at.
"""

from functools import partial

import jax
import numpy as np

from jaxnn.data._resident import Resident
from jaxnn.learning._learner import Learner
from jaxnn.observing.observation import Kind, inputs_of, spread
from jaxnn.observing.plan import take, weighted
from jaxnn.typing import Any

EXAMPLES = 8  # of the best, the worst and the most uncertain
MOST = 10_000  # examples at most
POINTS = 1000  # of them those that a picture of truth and prediction has
LARGEST = 65_536  # bytes of an example that is recorded


def final_predictions(
    learner: Learner, state: Any, data: Resident, kind: Kind, most: int = MOST
) -> dict[str, np.ndarray]:
    """Returns arrays by name, as `jaxnn.storage.recording` writes them.

    For classification the confusion matrix, and the examples with the highest loss, the lowest,
    and the least difference between the two likeliest classes. For regression the true and the
    predicted numbers, the first of each example.

    Args:
      learner: of the run.
      state: at the end.
      data: to predict; examples of weight 0 are left out.
      kind: what the outputs are.
      most: how many examples at most, from all over the data.
    """
    if kind == "other":
        return {}
    count = min(most, data.num_examples)
    index = spread(data, count)
    size = min(data.batch_size, count)
    batches = []
    for start in range(0, count, size):
        # The last batch is filled up with its last example.
        places = np.minimum(np.arange(start, start + size), count - 1)
        answers = jax.device_get(_answers(learner, state, data, index[places]))
        batches.append([part[: count - start] for part in answers])
    outputs, labels, weights = (np.concatenate(each) for each in zip(*batches))
    counted = weights.reshape(count, -1).any(1)
    if kind == "regression":
        truth, predicted = (x.reshape(count, -1)[counted][:POINTS, 0] for x in (labels, outputs))
        return {"truth": truth, "predicted": predicted}
    counted &= (labels >= 0) & (labels < outputs.shape[-1])
    return _classified(data, index[counted], labels[counted], outputs[counted])


@partial(jax.jit, static_argnums=0)
def _answers(learner: Learner, state: Any, data: Resident, index: Any) -> Any:
    batch = weighted(data.take(index))
    outputs = learner.predict(state, inputs_of(learner, state, batch))
    return outputs.astype(np.float32), batch["labels"], batch["weights"]


def _classified(
    data: Resident, index: np.ndarray, labels: np.ndarray, outputs: np.ndarray
) -> dict[str, np.ndarray]:
    classes, rows = outputs.shape[-1], np.arange(len(labels))
    shifted = outputs - outputs.max(-1, keepdims=True)
    chances = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
    loss = np.log(np.exp(shifted).sum(-1)) - shifted[rows, labels]
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, outputs.argmax(-1)), 1)
    likeliest = np.sort(chances, -1)
    orders = {"worst": -loss, "best": loss, "uncertain": likeliest[:, -1] - likeliest[:, -2]}
    arrays: dict[str, np.ndarray] = {"confusion": confusion}
    for name, order in orders.items():
        chosen = np.argsort(order, kind="stable")[:EXAMPLES]
        fields = {"index": index, "labels": labels, "outputs": outputs, "loss": loss}
        arrays |= {f"{name}/{field}": values[chosen] for field, values in fields.items()}
        arrays |= {f"{name}/{field}": x for field, x in examples(data, index[chosen]).items()}
    return arrays


def examples(data: Resident, index: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the inputs of some examples on the host, `{}` if they are large, or no one array."""
    inputs = data.arrays["inputs"]
    if not hasattr(inputs, "nbytes") or inputs.nbytes > LARGEST * data.num_examples:
        return {}
    return {"inputs": np.asarray(take(data, index)["inputs"])}
