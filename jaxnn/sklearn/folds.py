"""Data of members that have examples of their own each: the folds of a cross-validation.

All examples are on the device once. A member's fold is a hyper-parameter of it, `fold`, which the
learner knows and the data do not. So a batch of `Folds` is the data themselves with a number, and
`per_fold(learner)` reads the examples of the member from it, inside the same program. They are the
examples, in the order, that the member would have if these were all its data.
"""

from dataclasses import dataclass, replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.data.order import epoch_and_place, permute
from jaxnn.learning import Learner
from jaxnn.typing import Any, Batch


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["inputs", "rows", "fields", "size", "key"],
    meta_fields=["batch_size", "sizes"],
)
@dataclass(frozen=True)
class Folds:
    """Examples on the device, and which of them belong to each fold.

    Attributes:
      inputs: of all examples, `[examples, ...]`.
      rows: the numbers of the examples of each fold, `[folds, places]`, filled up with any.
      fields: what else there is of the examples, by name, `[folds, places, ...]`.
      size: which of `sizes` is that of each fold, int32 `[folds]`.
      key: chooses the order of training batches.
      batch_size: examples in a batch.
      sizes: how many examples a fold may have. They are constants of the program, with a branch for
        each: divided by a number that is an input, the order of the data takes twice as long as
        the training of a small network.
    """

    inputs: Any
    rows: Any
    fields: dict[str, Any]
    size: Any
    key: Any
    batch_size: int
    sizes: tuple[int, ...]

    @property
    def num_examples(self) -> int:
        """The examples of the largest fold."""
        return self.rows.shape[1]

    @property
    def num_batches(self) -> int:
        """The batches of an evaluation of the largest fold."""
        return -(-self.num_examples // self.batch_size)

    @property
    def examples(self) -> dict[str, Any]:
        """All examples, fold after fold."""
        rows = self.rows.reshape(-1)
        fields = {name: x.reshape(-1, *x.shape[2:]) for name, x in self.fields.items()}
        return {"inputs": self.inputs[rows], **fields}

    def shuffled(self, key: Any) -> "Folds":
        """Returns the same data with the order chosen by `key`."""
        return replace(self, key=key)

    def batch(self, step: Any) -> Batch:
        """Returns what `per_fold` reads the training batch of a step from."""
        return {"folds": self, "number": step}

    in_order = batch

    def training(self, fold: Any, step: Any) -> Batch:
        """Returns the training batch of a step of a fold."""

        def index(count):
            epoch, place = epoch_and_place(step, self.batch_size, count)
            return permute(self.key, epoch, place, count).astype(jnp.int32)

        branches = [partial(index, count) for count in self.sizes]
        return self._take(fold, lax.switch(self.size[fold], branches))

    def evaluation(self, fold: Any, number: Any) -> Batch:
        """Returns a batch of a fold in order; what is past its end has weight 0."""
        size = min(self.batch_size, self.num_examples)
        place = number * size + lax.iota(jnp.int32, size)
        count = jnp.array(self.sizes, jnp.int32)[self.size[fold]]
        batch = self._take(fold, jnp.minimum(place, count - 1))
        weights = batch.get("weights", jnp.ones(size, jnp.float32))
        return {**batch, "weights": jnp.where(place < count, weights, 0.0)}

    def _take(self, fold: Any, index: Any) -> Batch:
        fields = {name: x[fold, index] for name, x in self.fields.items()}
        return {"inputs": self.inputs[self.rows[fold, index]], **fields, "index": index}


@lru_cache(256)
def per_fold(learner: Learner) -> Learner:
    """Returns the learner of members that learn from `Folds`, each from that of its `fold`."""

    def training(hparams, batch):
        return batch["folds"].training(hparams["fold"].astype(jnp.int32), batch["number"])

    def init(key, hparams, batch):
        first = jax.eval_shape(lambda b: b["folds"].training(0, b["number"]), batch)
        return learner.init(key, hparams, first)

    def gradients(state, batch, part=None, factor=None):
        return learner.gradients(state, training(state.hparams, batch), part, factor)

    def update(state, batch, gradients):
        after, metrics = learner.update(state, training(state.hparams, batch), gradients)
        return after, {"loss": metrics["loss"]}  # other sums would take as long as the network

    def evaluate(state, batch):
        fold = state.hparams["fold"].astype(jnp.int32)
        return learner.evaluate(state, batch["folds"].evaluation(fold, batch["number"]))

    def check(hparams, arrays, state, batch):
        own = {name: value for name, value in hparams.items() if name != "fold"}
        first = jax.eval_shape(lambda b: b["folds"].training(0, b["number"]), batch)
        learner.check(own, arrays, state, first)

    changes = {"init": init, "gradients": gradients, "update": update}
    return learner._replace(**changes, evaluate=evaluate, check=check)
