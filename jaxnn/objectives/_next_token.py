"""Language modelling: predicts the next token at each position of a text.

Data are windows of tokens, `[batch, length + 1]`. `prepare` returns all tokens but the last as
inputs, and all but the first as labels. Outputs are logits `[batch, length, vocabulary]`.

>>> import jax.numpy as jnp
>>> batch = next_token().prepare(None, {"inputs": jnp.array([[5, 6, 7]])})
>>> batch["inputs"].tolist(), batch["labels"].tolist()
([[5, 6]], [[6, 7]])
"""

from collections.abc import Sequence

import jax.numpy as jnp

from jaxnn import metrics as measures
from jaxnn.checks import InvalidType, InvalidValue, number, positive
from jaxnn.masked import Masked, values_of
from jaxnn.metrics.entropy import cross_entropy
from jaxnn.objectives._classification import check_labels, logits_and_labels
from jaxnn.objectives._examples import shield
from jaxnn.objectives._objective import Objective, weights_of
from jaxnn.typing import Number


def next_token(
    *,
    label_smoothing: Number = 0.0,
    bytes_per_token: float = 1.0,
    vocabulary: Sequence[str] = (),
) -> Objective:
    """Returns the objective for next-token prediction: cross-entropy in nats per token.

    The `inputs` of the data are integers `[batch, length + 1]`; the network reads all tokens except
    the last. The optional `weights` are those of the examples, or of the `length` labels. The
    metrics are `accuracy`, `perplexity` and `bits_per_byte`, the last two without smoothing.

    Args:
      label_smoothing: as in `classification`.
      bytes_per_token: the mean length of a token in bytes, for `bits_per_byte`. With 1,
        `bits_per_byte` reports bits per token.
      vocabulary: the text of each token, such as `Characters(text).all`. If given, the report of a
        run shows text that the network generates during training.

    Raises:
      InvalidType: when traced, if tokens are not integers `[batch, length + 1]`.
      InvalidValue: if a token is not below the number of outputs, or the vocabulary is larger than
        that.
    """
    number("next_token", "label_smoothing", label_smoothing, low=0.0, high=1.0)
    positive("next_token", "bytes_per_token", bytes_per_token)

    def prepare(key, batch):
        tokens = values_of(batch["inputs"])
        whole = hasattr(tokens, "dtype") and jnp.issubdtype(tokens.dtype, jnp.integer)
        if not whole or tokens.ndim != 2 or tokens.shape[1] < 2:
            shown = f"{tokens.dtype}{list(tokens.shape)}" if hasattr(tokens, "dtype") else "a tree"
            raise InvalidType(
                "next_token",
                "inputs are not windows of tokens",
                got=f"inputs {shown}",
                expected="integers [batch, length + 1], with a length of at least 1",
                fix="Cut the text into windows one token longer than the network's inputs",
            )
        inputs = tokens[:, :-1]
        if isinstance(batch["inputs"], Masked):
            inputs = _with_next(batch["inputs"])
        return {**batch, "inputs": inputs, "labels": tokens[:, 1:]}

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
        # The data may also be one long text, from which windows are drawn.
        check_labels("next_token", outputs.shape[-1], arrays, "inputs")
        if len(vocabulary) > outputs.shape[-1]:
            raise InvalidValue(
                "next_token",
                "the vocabulary has more tokens than the network has outputs",
                got=f"{len(vocabulary):,} tokens and {outputs.shape[-1]:,} outputs",
                expected="at least one output for each token",
                fix="Give the network an output for each token of the vocabulary",
            )

    return Objective(shield(loss), shield(metrics), prepare, check, tuple(vocabulary))


def _with_next(tokens: Masked) -> Masked:
    """Returns all tokens but the last, masked where the next token is not of the same sequence.

    So the loss of packed sequences is the same as of separate ones: the first token of a sequence
    is never the label of the last token of the previous one.
    """
    mask, segments = tokens.mask, tokens.segments
    exists = mask[:, :-1] & mask[:, 1:]
    if segments is not None:
        exists, segments = exists & (segments[:, :-1] == segments[:, 1:]), segments[:, :-1]
    return Masked(tokens.values[:, :-1], exists, segments)
