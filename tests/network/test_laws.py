"""The laws of networks and objectives, held over everything in the registry.

Those of learners are in `test_learner_laws.py`.
"""

import re
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.interpreters.partial_eval import dce_jaxpr

from jaxnn import metrics as measures
from jaxnn.calls import intercept, join
from jaxnn.programs import operations
from tests.cases import held
from tests.registry import NETWORKS, OBJECTIVES
from tests.trees import assert_close, assert_same_bits

KEY = jax.random.key(3)
strict = pytest.mark.usefixtures("strict")


def shapes_of(inputs):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), inputs)


def examples_in(inputs):
    return len(jax.tree.leaves(inputs)[0])


@cache
def initial(case):
    """Returns the network's own `(params, state)`."""
    shape = shapes_of(case.data)
    return jax.jit(lambda key: case.thing.init(key, shape))(jax.random.key(1))


@cache
def made(case):
    """Returns the same, moved at random, so that no parameter is 0 or 1 by rule."""
    params, state = initial(case)
    draws = np.random.default_rng(2)
    return jax.tree.map(
        lambda x: jnp.asarray(np.asarray(x) + np.float32(0.1 * draws.normal(size=x.shape))), params
    ), state


@cache
def compiled(case):
    return jax.jit(case.thing.apply)


def program(function, *arguments):
    """Returns what is traced and needed, as a text that is the same for the same computation."""
    traced = jax.make_jaxpr(function)(*arguments).jaxpr
    needed, _ = dce_jaxpr(traced, [True] * len(traced.outvars), instantiate=True)
    return re.sub("0x[0-9a-f]+", "", str(needed))


def inexact(tree):
    return all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(tree))


def float64():
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64

    return enable_x64(True)


@strict
@held(NETWORKS, "shapes")
def test_shapes(case, key):
    """What tracing says about shapes and dtypes is what running gives; the batch leads."""
    params, state = initial(case)
    traced = jax.eval_shape(case.thing.init, key, case.data)
    chex.assert_trees_all_equal_shapes_and_dtypes(traced, (params, state))
    for given in (None, key):
        ran = compiled(case)(params, state, case.data, key=given)
        traced = jax.eval_shape(lambda: case.thing.apply(params, state, case.data, key=given))
        chex.assert_trees_all_equal_shapes_and_dtypes(traced, ran)
        assert all(len(leaf) == examples_in(case.data) for leaf in jax.tree.leaves(ran[0]))


@strict
@held(NETWORKS, "init")
def test_init(case, key):
    """Init reads nothing but shapes and dtypes, and gives nested dicts of typed arrays."""
    init, shape = case.thing.init, shapes_of(case.data)  # made before anything is traced
    of_shapes = program(lambda key, inputs: init(key, shape), key, case.data)
    assert program(init, key, case.data) == of_shapes
    for path, leaf in jax.tree.leaves_with_path(initial(case)):
        assert isinstance(leaf, jax.Array) and not leaf.weak_type, path
        assert all(isinstance(part, jax.tree_util.DictKey) for part in path[1:]), path


@strict
@held(NETWORKS, "inference")
def test_inference(case):
    """Without a key nothing is random, and the state is not changed."""
    params, state = made(case)
    outputs, after = compiled(case)(params, state, case.data)
    assert_same_bits(after, state)
    assert_same_bits(compiled(case)(params, state, case.data)[0], outputs)


@strict
@held(NETWORKS, "training")
def test_training(case):
    """With a key all randomness is the key's, and the state keeps its form."""
    params, state = made(case)
    outputs, after = compiled(case)(params, state, case.data, key=KEY)
    assert_same_bits(compiled(case)(params, state, case.data, key=KEY), (outputs, after))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert all(not leaf.weak_type for leaf in jax.tree.leaves(after))


@strict
@held(NETWORKS, "compiled")
def test_compiled(case):
    """A compiled network computes what it computes operation by operation."""
    eager = case.thing.apply(*made(case), case.data, key=KEY)
    assert_close(compiled(case)(*made(case), case.data, key=KEY), eager)


@strict
@held(NETWORKS, "examples")
def test_examples(case):
    """In inference a batch is its examples one by one."""
    params, state = made(case)
    batch, _ = compiled(case)(params, state, case.data)
    singles = [
        jax.tree.map(lambda x: x[i : i + 1], case.data) for i in range(examples_in(case.data))
    ]
    alone = [compiled(case)(params, state, each)[0] for each in singles]
    assert_close(jax.tree.map(lambda *parts: np.concatenate(parts), *alone), batch)


@strict
@held(NETWORKS, "bfloat16")
def test_bfloat16(case):
    """Parameters and inputs in bfloat16 give outputs in bfloat16, and the state keeps its own."""

    def narrow(tree):
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16) if inexact(x) else x, tree)

    params, state = initial(case)
    for key in (None, KEY):
        outputs, after = jax.eval_shape(
            lambda: case.thing.apply(narrow(params), state, narrow(case.data), key=key)
        )
        chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
        wanted = case.facts.get("bfloat16", jnp.bfloat16)
        assert all(leaf.dtype == wanted for leaf in jax.tree.leaves(outputs))


@held(NETWORKS, "gradients")
def test_gradients(case):
    """Gradients are finite differences, and finite where everything is 0, as in a black image."""
    # Float64 leaves the differences ten digits; what is float32 inside needs longer steps.
    length = {"float64": 1e-5, "float32": 2e-2}[case.facts.get("internal", "float64")]
    tolerance = {"float64": 1e-7, "float32": 1e-3}[case.facts.get("internal", "float64")]
    own, moved = initial(case), made(case)  # in float32, as they are made
    with float64():
        draws = np.random.default_rng(5)
        params, state = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)), moved)
        place = (params, np.asarray(case.data, np.float64) if inexact(case.data) else None)
        toward = jax.tree.map(lambda x: draws.normal(size=x.shape), place)

        @jax.jit
        def slopes(place, toward):
            def scalar(place):
                inputs = case.data if place[1] is None else place[1]
                outputs, _ = case.thing.apply(place[0], state, inputs, key=KEY)
                # Each output with another weight, so that none may stand in for another.
                return sum(
                    jnp.vdot(leaf, jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)))
                    for leaf in jax.tree.leaves(outputs)
                )

            def at(step):
                return scalar(jax.tree.map(lambda x, d: x + step * d, place, toward))

            ahead2, ahead, behind, behind2 = jax.lax.map(at, length * jnp.array([2.0, 1, -1, -2]))
            measured = (8 * (ahead - behind) - (ahead2 - behind2)) / (12 * length)
            return measured, jax.grad(scalar)(place)

        measured, grads = slopes(place, toward)
        products = jax.tree.map(np.vdot, grads, toward)
        computed = sum(jax.tree.leaves(products))
        assert abs(measured - computed) < tolerance * max(1.0, abs(measured))

        black = jax.tree.map(lambda x: np.asarray(x, np.float64), own[0])
        _, grads = slopes((black, None if place[1] is None else 0.0 * place[1]), toward)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@strict
@held(NETWORKS, "parts")
def test_parts(case):
    """A network's parts describe every parameter, and every part that is described is called."""
    params, state = made(case)
    leaves = set(leaf_paths(case.thing))
    assert case.thing.parts.kind in repr(case.thing)
    for path, _ in jax.tree.leaves_with_path(params):
        *owner, name = [part.key for part in path]
        if name in ("down", "up"):  # an adapter is at the place of a parameter of the part
            owner.pop()
        assert "/".join(owner) in leaves, f"{path} belongs to no part among {leaves}"
    called = set()
    recorded = intercept(case.thing, lambda path, part: (called.add(path), part)[1])
    programs = [
        jax.make_jaxpr(lambda *arrays, each=each: each.apply(*arrays, key=KEY))(
            params, state, case.data
        )
        for each in (recorded, case.thing)
    ]
    first, second = ([op.primitive for op, _ in operations(each.jaxpr)] for each in programs)
    assert first == second
    assert leaves <= called


def leaf_paths(network, path=""):
    if not network.parts.children:
        yield path
    for name, child in network.parts.children:
        yield from leaf_paths(child, join(path, name))


# --- Objectives --------------------------------------------------------------------------------


def halves(batch):
    middle = len(batch["inputs"]) // 2
    return tuple(jax.tree.map(lambda x, p=part: x[p], batch) for part in np.s_[:middle, middle:])


def joined(first, second):
    return jax.tree.map(lambda *parts: np.concatenate(parts), first, second)


@cache
def measure(case):
    """Returns `batch -> (sums, values)` of the loss and all metrics."""

    @jax.jit
    def measured(batch):
        batch = dict(batch)
        outputs = batch.pop("outputs")
        values, weights = case.thing.loss(outputs, batch)
        assert values.dtype == weights.dtype == jnp.float32 and values.shape == weights.shape
        sums = {"loss": measures.mean(values, weights), **case.thing.metrics(outputs, batch)}
        return sums, measures.values(sums)

    return measured


@strict
@held(OBJECTIVES, "additive")
def test_objective_additive(case):
    """The sums of two parts of a batch are those of the whole: metrics merge by addition."""
    _, wanted = measure(case)(case.data)
    first, second = (measure(case)(half)[0] for half in halves(case.data))
    assert_close(measures.values(measures.merge(first, second)), wanted)
    assert all(jnp.shape(value) == () and np.isfinite(value) for value in wanted.values())


@strict
@held(OBJECTIVES, "unweighted")
def test_objective_weights(case):
    """An example of weight 0 counts for nothing, even if NaN; one of weight 2 counts twice."""
    first, rest = halves(case.data)
    nothing = jax.tree.map(lambda x: x * np.float32(np.nan) if inexact(x) else x, rest)
    padded = {**joined(first, nothing), "weights": np.float32([1] * 4 + [0] * 4)}
    assert_close(measure(case)(padded)[1], measure(case)(first)[1])
    twice = joined(case.data, rest)
    weighted = {**case.data, "weights": np.float32([1] * 4 + [2] * 4)}
    assert_close(measure(case)(weighted)[1], measure(case)(twice)[1])


@strict
@held(OBJECTIVES, "prepare")
def test_objective_prepare(case):
    """Without a key a batch is prepared the same way each time; with one, example by example."""
    batch = {"index": np.int32([5, 0, 2, 1, 3, 4, 6, 7]), **case.data}
    assert_same_bits(case.thing.prepare(None, batch), case.thing.prepare(None, batch))
    for key in (None, KEY):
        parts = [case.thing.prepare(key, part) for part in halves(batch)]
        assert_same_bits(joined(*parts), case.thing.prepare(key, batch))


@strict
@held(OBJECTIVES, "gradients")
def test_objective_gradients(case):
    """The gradient of the loss by the outputs is its finite difference."""
    batch = {k: v for k, v in case.data.items() if k != "outputs"}
    flat, outputs_of = ravel_pytree(case.data["outputs"])

    @jax.jit
    def loss(flat):
        values, weights = case.thing.loss(outputs_of(flat), batch)
        return jnp.sum(values * weights)

    tolerance = {"atol": 5e-3 / flat.size, "rtol": 5e-3}  # chex multiplies by the size
    chex.assert_numerical_grads(loss, (flat,), order=1, eps=2e-2, **tolerance)
