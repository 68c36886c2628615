"""Data in which each member of a population has its own examples: cross-validation folds.

The device holds all examples once. The fold of a member is its hyper-parameter `fold`, which the
learner can read and the data cannot. A batch of `Folds` is therefore the data and a step number,
from which `per_fold(learner)` reads the examples of the member inside the same program. A member
sees the same examples, in the same order, as if its fold were the whole data.
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
    """Examples on the device, and the rows that belong to each fold.

    Attributes:
      inputs: the inputs of all examples, `[examples, ...]`.
      rows: the row numbers of each fold, int32 `[folds, places]`; shorter folds are padded.
      fields: the other fields of the examples by name, `[folds, places, ...]`.
      size: the index of each fold's size in `sizes`, int32 `[folds]`.
      key: the key that determines the order of training batches.
      batch_size: the number of examples in a batch.
      sizes: the distinct fold sizes. They are constants of the program, with a branch for each:
        with a size that is an input, to compute the order of the data takes twice as long as to
        train a small network.
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
        """The number of examples in the largest fold."""
        return self.rows.shape[1]

    @property
    def num_batches(self) -> int:
        """The number of batches in an evaluation of the largest fold."""
        return -(-self.num_examples // self.batch_size)

    @property
    def examples(self) -> dict[str, Any]:
        """All examples, one fold after another."""
        rows = self.rows.reshape(-1)
        fields = {name: x.reshape(-1, *x.shape[2:]) for name, x in self.fields.items()}
        return {"inputs": self.inputs[rows], **fields}

    def shuffled(self, key: Any) -> "Folds":
        """Returns the same data in the order that `key` determines."""
        return replace(self, key=key)

    def batch(self, step: Any) -> Batch:
        """Returns the data and a step number, from which `per_fold` reads the batch."""
        return {"folds": self, "number": step}

    in_order = batch

    def training(self, fold: Any, step: Any) -> Batch:
        """Returns the training batch of a fold at a step."""

        def index(count):
            epoch, place = epoch_and_place(step, self.batch_size, count)
            return permute(self.key, epoch, place, count).astype(jnp.int32)

        branches = [partial(index, count) for count in self.sizes]
        return self._take(fold, lax.switch(self.size[fold], branches))

    def evaluation(self, fold: Any, number: Any) -> Batch:
        """Returns an evaluation batch of a fold; examples past its end have weight 0."""
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
    """Returns a learner for `Folds`, in which each member trains on the fold `hparams["fold"]`."""

    def training(hparams, batch):
        return batch["folds"].training(hparams["fold"].astype(jnp.int32), batch["number"])

    def init(key, hparams, batch):
        first = jax.eval_shape(lambda b: b["folds"].training(0, b["number"]), batch)
        return learner.init(key, hparams, first)

    def gradients(state, batch, part=None, factor=None):
        return learner.gradients(state, training(state.hparams, batch), part, factor)

    def update(state, batch, gradients):
        after, metrics = learner.update(state, training(state.hparams, batch), gradients)
        return after, {"loss": metrics["loss"]}  # other metrics would take as long as the network

    def evaluate(state, batch):
        fold = state.hparams["fold"].astype(jnp.int32)
        return learner.evaluate(state, batch["folds"].evaluation(fold, batch["number"]))

    def check(hparams, arrays, state, batch):
        own = {name: value for name, value in hparams.items() if name != "fold"}
        first = jax.eval_shape(lambda b: b["folds"].training(0, b["number"]), batch)
        learner.check(own, arrays, state, first)

    changes = {"init": init, "gradients": gradients, "update": update}
    return learner._replace(**changes, evaluate=evaluate, check=check)
