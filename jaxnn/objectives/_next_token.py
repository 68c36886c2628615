"""Language modelling: of each token of a text the next one is predicted.

Data are windows of tokens, `[batch, length + 1]`; `prepare` cuts them into inputs and labels, one
place apart. Outputs are logits `[batch, length, vocabulary]`.

>>> import jax.numpy as jnp
>>> batch = next_token().prepare(None, {"inputs": jnp.array([[5, 6, 7]])})
>>> batch["inputs"].tolist(), batch["labels"].tolist()
([[5, 6]], [[6, 7]])
"""

import jax.numpy as jnp

from jaxnn import metrics as measures
from jaxnn.checks import InvalidType, number, positive
from jaxnn.objectives._classification import check_labels, cross_entropy, logits_and_labels
from jaxnn.objectives._examples import shield
from jaxnn.objectives._objective import Objective, weights_of
from jaxnn.typing import Number


def next_token(*, label_smoothing: Number = 0.0, bytes_per_token: float = 1.0) -> Objective:
    """Cross-entropy (nats per token) between logits and the token that comes next.

    The data's `inputs` are integers `[batch, length + 1]`, of which the network is given all but
    the last; `weights`, if there, are those of examples, or of the `length` labels. Reports
    `accuracy`, `perplexity` and `bits_per_byte`, the last two without smoothing.

    Args:
      label_smoothing: as in `classification`.
      bytes_per_token: the mean length of a token in bytes, for `bits_per_byte`. With 1, for tokens
        that are longer than a byte, what is reported under that name is bits per token.

    Raises:
      InvalidType: when traced, if tokens are not whole numbers `[batch, length + 1]`.
      InvalidValue: if a token of the data is outside of the vocabulary, which is as many tokens as
        there are outputs.
    """
    number("next_token", "label_smoothing", label_smoothing, low=0.0, high=1.0)
    positive("next_token", "bytes_per_token", bytes_per_token)

    def prepare(key, batch):
        tokens = batch["inputs"]
        whole = hasattr(tokens, "dtype") and jnp.issubdtype(tokens.dtype, jnp.integer)
        if not whole or tokens.ndim != 2 or tokens.shape[1] < 2:
            shown = f"{tokens.dtype}{list(tokens.shape)}" if hasattr(tokens, "dtype") else "a tree"
            raise InvalidType(
                "next_token",
                "inputs are not windows of tokens",
                got=f"inputs {shown}",
                expected="integers [batch, length + 1], with a length of at least 1",
                fix="Cut the text into windows that are one token longer than what the network"
                " reads",
            )
        return {**batch, "inputs": tokens[:, :-1], "labels": tokens[:, 1:]}

    def loss(outputs, batch):
        logits, labels = logits_and_labels("next_token", outputs, batch)
        losses = cross_entropy(logits, labels, label_smoothing)
        return losses, weights_of(batch, losses)

    def metrics(outputs, batch):
        logits, labels = logits_and_labels("next_token", outputs, batch)
        given = logits, labels, weights_of(batch, labels)
        return {
            "accuracy": measures.accuracy(*given),
            "perplexity": measures.perplexity(*given),
            "bits_per_byte": measures.bits_per_byte(*given, bytes_per_token=bytes_per_token),
        }

    def check(outputs, arrays):
        # The whole data may also be one long text, of which windows are taken.
        check_labels("next_token", outputs.shape[-1], arrays, "inputs")

    return Objective(shield(loss), shield(metrics), prepare, check)
