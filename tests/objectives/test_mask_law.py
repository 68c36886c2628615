"""The law of masks for objectives: the places of sequences that exist count as so many examples.

Each objective of the registry is given its examples as places of padded sequences. It gives the
loss, the gradient and the metrics of those examples, or an error in its own name.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import Invalid, Masked
from jaxnn import metrics as measures
from jaxnn.objectives._places import of_places
from tests.cases import held
from tests.registry import OBJECTIVES
from tests.trees import assert_close

MASK = np.array([[1, 1, 1, 0], [0, 1, 0, 1], [1, 1, 1, 0]], bool)  # 8 places of 12

# These take places; every other objective refuses.
TAKING = {
    "classification", "classification_smooth", "classification_of_tokens", "regression",
    "regression_absolute", "regression_huber", "multi_label", "plain_loss", "augmented",
    "classification_measured", "focal", "next_token", "distilled",
}  # fmt: skip


def spread(x, spoil):
    """Returns the 8 examples at the places that exist, and rubbish at the others."""
    rubbish = spoil if x.dtype.kind == "f" else -100
    values = np.full((*MASK.shape, *x.shape[1:]), rubbish, x.dtype)
    values[MASK] = x
    return jnp.asarray(values)


@held(OBJECTIVES, "masked")
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_places_count_as_so_many_examples(case, weighted):
    spoil = np.nan if weighted else 1e30
    goal, data = case.thing, {**case.data, "index": np.arange(8)}
    if weighted:
        data["weights"] = np.float32([1, 2, 0, 1, 3, 1, 0, 2])
    wide = {name: spread(x, spoil) for name, x in data.items() if not isinstance(x, dict | tuple)}
    wide["index"] = jnp.arange(3)
    wide["inputs"] = Masked(wide["inputs"], jnp.asarray(MASK))
    outputs = jax.tree.map(lambda x: spread(x, spoil), data.pop("outputs"))

    def of(goal, outputs, batch, wrap):
        def loss(outputs):
            outputs = jax.tree.map(wrap, outputs)
            return measures.mean(*goal.loss(outputs, batch)).value()

        found = measures.values(goal.metrics(jax.tree.map(wrap, outputs), batch))
        return *jax.value_and_grad(loss)(outputs), found

    wide.pop("outputs", None)
    try:
        found = of(of_places(goal), outputs, wide, lambda x: Masked(x, jnp.asarray(MASK)))
    except Invalid as error:
        assert case.name not in TAKING, error
        assert any(word in str(error) for word in ("Masked", "places", "empty", "shapes")), error
        return
    assert case.name in TAKING
    batch = jax.tree.map(jnp.asarray, data)
    wanted = of(goal, jnp.asarray(case.data["outputs"]), batch, lambda x: x)
    assert_close((found[0], found[2]), (wanted[0], wanted[2]), 2e-6)
    assert_close(found[1][MASK], wanted[1], 2e-6)
    assert not np.any(np.asarray(found[1])[~MASK])
