"""The law of masks: a sequence with empty places gives the numbers that it gives without them."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnn
from jaxnn import InvalidType, InvalidValue, Masked, layers
from jaxnn.masked import values_of
from jaxnn.programs import operations
from tests.cases import Case, held, real, whole
from tests.registry import NETWORKS
from tests.trees import assert_close, assert_same_bits

strict = pytest.mark.usefixtures("strict")
LENGTHS = (3, 5, 1, 4)
TIME = 8
SIDES = ("right", "left", "holes")


def places(side):
    """Returns which places there are, `[batch, time]`."""
    mask = np.zeros((len(LENGTHS), TIME), bool)
    draws = np.random.default_rng(7)
    for row, length in zip(mask, LENGTHS):
        chosen = {
            "right": np.arange(length),
            "left": np.arange(TIME - length, TIME),
            "holes": np.sort(draws.choice(TIME, length, replace=False)),
        }[side]
        row[chosen] = True
    return mask


def sequences(case):
    """Returns the sequences alone, each `[1, length, ...]`."""
    return [case.data[i : i + 1, :length] for i, length in enumerate(LENGTHS)]


def rubbish(array, number):
    """Returns what stands in empty places: nothing that a sum survives."""
    if np.issubdtype(array.dtype, np.integer):
        return array.dtype.type([-7, 10**9][number])
    return array.dtype.type([np.nan, np.inf][number])


def masked(case, side, number=0):
    """Returns the sequences as one batch."""
    mask = places(side)
    values = np.full((len(LENGTHS), TIME, *case.data.shape[2:]), rubbish(case.data, number))
    values = values.astype(case.data.dtype)
    for row, here, sequence in zip(values, mask, sequences(case)):
        row[here] = sequence[0]
    return Masked(jnp.asarray(values), jnp.asarray(mask))


def packed(case):
    """Returns the sequences in two rows, and where each of them is."""
    rows = [(0, 0), (0, 3), (1, 1), (1, 2)]
    segments = np.zeros((2, TIME), np.int32)
    values = np.full((2, TIME, *case.data.shape[2:]), rubbish(case.data, 0)).astype(case.data.dtype)
    for number, ((row, start), sequence) in enumerate(zip(rows, sequences(case)), start=1):
        here = np.s_[row, start : start + sequence.shape[1]]
        values[here], segments[here] = sequence[0], number
    return Masked.from_segments(jnp.asarray(values), jnp.asarray(segments))


@cache
def params_of(case):
    params, state = jax.jit(case.thing.init)(jax.random.key(0), case.data)
    draws = np.random.default_rng(2)
    return jax.tree.map(
        lambda x: jnp.asarray(np.asarray(x) + np.float32(0.1 * draws.normal(size=x.shape))), params
    ), state


def weighed(outputs):
    """Returns a sum in which each number of a sequence counts differently."""
    values = values_of(outputs).astype(jnp.float32)
    if values.ndim > 3:
        values = values.reshape(*values.shape[:2], -1)
    features = jnp.arange(values.shape[-1], dtype=jnp.float32)
    if values.ndim < 3:
        return jnp.sum(values * jnp.cos(features)[None])
    count = jnp.arange(values.shape[1])[None]
    place = outputs.places() if isinstance(outputs, Masked) else count
    return jnp.sum(
        values * jnp.cos(7.0 * place.astype(jnp.float32)[..., None] + features[None, None])
    )


@cache
def program(case):
    """Returns `inputs -> (gradients of the sum, outputs)`, of a batch or a list of them."""
    params, state = params_of(case)

    def scalar(params, inputs):
        batches = inputs if isinstance(inputs, list) else [inputs]
        outputs = [case.thing.apply(params, state, x)[0] for x in batches]
        return sum(map(weighed, outputs)), outputs

    return jax.jit(lambda inputs: jax.grad(scalar, has_aux=True)(params, inputs))


def taken(outputs, inputs):
    """Returns the outputs of each sequence, without empty places."""
    values = np.asarray(values_of(outputs))  # each other form compiles an index in JAX
    if not isinstance(outputs, Masked):
        return [values[i : i + 1] for i in range(len(values))]
    if inputs.segments is None:
        mask = np.asarray(outputs.mask)
        return [values[i : i + 1, np.flatnonzero(here)] for i, here in enumerate(mask)]
    places = [np.argwhere(np.asarray(inputs.segments) == i + 1) for i in range(len(LENGTHS))]
    return [values[None, at[:, 0], at[:, 1]] for at in places]


@cache
def alone(case):
    return program(case)(sequences(case))


def check(case, inputs):
    gradients, (outputs,) = program(case)(inputs)
    slopes, wanted = alone(case)
    coarse = case.facts.get("tolerance", 2e-6)
    assert_close(taken(outputs, inputs), wanted, coarse)
    assert_close(gradients, slopes, 10 * coarse)


def gpt(**options):
    return jaxnn.gpt(7, layers=2, heads=2, features=8, positions=TIME, **options)


def cross(**options):
    sides = jaxnn.parallel(jaxnn.linear(4), jaxnn.linear(6))
    return jaxnn.serial(sides, jaxnn.attention(4, heads=2, **options))


def block():
    inside = jaxnn.serial(layers.layer_norm(), jaxnn.attention(4, heads=2, causal=True))
    return jaxnn.residual(jaxnn.serial(inside, jaxnn.dropout(0.3)))


REAL, WORDS = real(4, 5, 4), whole(7, 4, 5)
ROUGH = {"tolerance": 2e-2}
MASKED = [
    Case("linear", lambda: jaxnn.linear(3), REAL),
    Case("activation", lambda: jaxnn.activation(jnp.cos), REAL),
    Case("layer_norm", lambda: jaxnn.layer_norm(), REAL),
    Case("rms_norm", lambda: layers.rms_norm(), REAL),
    Case("standardize", lambda: jaxnn.standardize(0.5, 2.0), REAL),
    Case("dropout", lambda: jaxnn.dropout(0.5), REAL),
    Case("embedding", lambda: jaxnn.embedding(7, 3), WORDS),
    Case("positions", lambda: layers.positions(TIME), REAL),
    Case("gru", lambda: layers.gru(5), REAL),
    Case("gru_reverse", lambda: layers.gru(5, reverse=True), REAL),
    Case("lstm", lambda: layers.lstm(5), REAL),
    Case("lstm_reverse", lambda: layers.lstm(5, reverse=True), REAL),
    Case("rnn", lambda: jaxnn.rnn([8], 2), REAL),
    Case("rnn_every_step", lambda: jaxnn.rnn([4, 3], 2, cell="lstm", every_step=True), REAL),
    Case("attention", lambda: jaxnn.attention(6, heads=2), REAL),
    Case(
        "attention_causal",
        lambda: jaxnn.attention(
            8, heads=4, kv_heads=2, causal=True, window=3, rotary=100.0, dropout=0.2
        ),
        REAL,
    ),
    Case("attention_rotary", lambda: jaxnn.attention(8, heads=2, rotary=10000.0), REAL),
    Case("attention_cross", cross, REAL),
    *(
        Case(f"over_time_{how}", lambda how=how: layers.over_time(how), REAL)
        for how in ("mean", "sum", "max", "first", "last")
    ),
    Case("gpt", gpt, WORDS),
    Case("gpt_modern", lambda: gpt(form="modern", kv_heads=1, stacked=True), WORDS),
    Case(
        "gpt_head",
        lambda: jaxnn.serial(gpt(), layers.over_time("mean"), jaxnn.linear(3)),
        WORDS,
    ),
    Case("residual", lambda: jaxnn.residual(jaxnn.serial(layers.gru(4))), REAL),
    Case(
        "parallel_combined",
        lambda: jaxnn.parallel(
            layers.gru(3), layers.gru(3, reverse=True), combine=lambda o: jnp.concatenate(o, -1)
        ),
        REAL,
    ),
    Case("repeat", lambda: jaxnn.repeat(jaxnn.remat(block()), 2), REAL),
    Case("mixed_precision", lambda: jaxnn.mixed_precision(block()), REAL, facts=ROUGH),
    Case("lora", lambda: jaxnn.lora(block(), {"*weight": True}, rank=2), REAL),
    Case("freeze", lambda: jaxnn.freeze(block(), {"*bias": True}), REAL),
]


@strict
@held(MASKED, "padded")
@pytest.mark.parametrize("side", SIDES)
def test_a_padded_sequence_gives_what_it_gives_alone(case, side):
    """Outputs and gradients, wherever the empty places are and whatever stands in them."""
    check(case, masked(case, side))


@strict
@held(MASKED, "shield")
def test_what_stands_in_empty_places_changes_no_bit(case):
    run = program(case)
    assert_same_bits(*(run(masked(case, "holes", number)) for number in (0, 1)))


ONE = [case for case in MASKED if not case.name.startswith(("rnn", "over_time", "gpt_head"))]


@strict
@held([*ONE, MASKED[13]], "packed")
def test_sequences_in_a_row_do_not_see_each_other(case):
    check(case, packed(case))


@strict
@held(MASKED, "empty")
def test_a_sequence_of_no_places_is_defined(case):
    """Outputs and gradients are finite, and those of empty places are zero."""
    inputs = masked(case, "holes")
    some = jnp.array([True, False, True, False])[:, None]
    for exists in (inputs.mask & some, jnp.zeros_like(inputs.mask)):
        gradients, (outputs,) = program(case)(Masked(inputs.values, exists))
        finite = jax.tree.map(lambda x: bool(np.isfinite(x).all()), (gradients, outputs))
        assert all(jax.tree.leaves(finite))
        if isinstance(outputs, Masked):
            assert_same_bits(outputs.mask, exists)
            assert not np.any(np.asarray(outputs.values, np.float32)[~np.asarray(exists)])


# --- Windows over time ---------------------------------------------------------------------------

CAUSAL = [(2, 0)]
WINDOWS = [
    Case("conv", lambda: jaxnn.conv(3, 3), REAL),
    Case("conv_even", lambda: jaxnn.conv(3, 4), REAL),
    Case("conv_valid", lambda: jaxnn.conv(3, 2, padding="VALID"), REAL),
    Case("conv_causal", lambda: jaxnn.conv(3, 3, padding=CAUSAL, bias=False), REAL),
    Case("conv_dilated", lambda: jaxnn.conv(3, 3, dilation=2), REAL),
    Case("conv_of_images", lambda: jaxnn.conv(3, (3, 2), strides=(1, 2)), real(4, 5, 4, 2)),
    Case("depthwise_conv", lambda: layers.depthwise_conv(3, multiplier=2), REAL),
    Case("max_pool_overlap", lambda: jaxnn.max_pool(3, strides=1, padding="SAME"), -abs(REAL)),
    Case("avg_pool_overlap", lambda: jaxnn.avg_pool(3, strides=1, padding=[(1, 1)]), REAL),
    Case("deep", lambda: jaxnn.serial(jaxnn.conv(3, 3), jaxnn.conv(2, 3), layers.gru(3)), REAL),
]
STRIDES = [
    Case("conv_strides", lambda: jaxnn.conv(3, 3, strides=2, padding=[(1, 1)]), REAL),
    Case("conv_strides_valid", lambda: jaxnn.conv(3, 3, strides=2, padding="VALID"), REAL),
    Case("conv_strides_same", lambda: jaxnn.conv(3, 4, strides=2), REAL),
    Case("max_pool", lambda: jaxnn.max_pool(2), REAL),
    Case("max_pool_same", lambda: jaxnn.max_pool(2, padding="SAME"), -abs(REAL)),
    Case("avg_pool", lambda: jaxnn.avg_pool(2), REAL),
]
GIVEN = [(c, "right") for c in (*WINDOWS, *STRIDES)] + [(c, "left") for c in WINDOWS]


@pytest.mark.parametrize(("case", "side"), GIVEN, ids=[f"{c.name}-{s}" for c, s in GIVEN])
def test_windows_of_a_padded_sequence_see_what_they_see_alone(case, side):
    """Outputs and gradients; where no window fits a short sequence, it has no output."""
    inputs, given, fits = masked(case, side), sequences(case), []
    params, state = params_of(case)
    for sequence in given:
        try:
            jax.eval_shape(lambda x: case.thing.apply(params, state, x)[0], sequence)
            fits.append(sequence)
        except InvalidValue:
            fits.append(None)
    gradients, (outputs,) = program(case)(inputs)
    slopes, wanted = program(case)([x for x in fits if x is not None])
    rows = outputs.sequences()
    assert not any(len(r) for r, x in zip(rows, fits) if x is None)
    assert_close([r for r, x in zip(rows, fits) if x is not None], [x[0] for x in wanted], 2e-6)
    assert_close(gradients, slopes, 2e-5)
    assert not np.any(np.asarray(outputs.values)[~np.asarray(outputs.mask)])


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (jaxnn.conv(3, 3, strides=2), r"conv: .*depends on the length.*padding=\[\(1, 1\)\]"),
        (jaxnn.max_pool(3, strides=2, padding="SAME"), "max_pool: .*depends on the length"),
        (jaxnn.conv(3, 2, padding=[(2, 2)]), "conv: .*depends on the length"),
    ],
    ids=["conv", "max_pool", "more_padding_than_window"],
)
def test_windows_whose_padding_depends_on_the_length_are_refused(network, words):
    params, state = network.init(jax.random.key(0), REAL)
    inputs = Masked.from_lengths(jnp.asarray(REAL), jnp.array(LENGTHS))
    with pytest.raises(InvalidValue, match=words):
        network.apply(params, state, inputs)


def test_windows_over_several_sequences_of_a_row_are_refused():
    network = jaxnn.conv(3, 3)
    params, state = network.init(jax.random.key(0), REAL)
    with pytest.raises(InvalidValue, match="conv: windows would overlap the boundaries"):
        network.apply(params, state, packed(WINDOWS[0]))


def test_a_known_case_of_other_libraries():
    """Three steps give what they give among eight, where the mask says so, and only there."""
    network = jaxnn.rnn([8], 2)
    steps = real(1, 3, 4)
    params, state = network.init(jax.random.key(0), steps)
    wide = np.concatenate([steps, np.zeros((1, 5, 4), np.float32)], 1)
    wanted, _ = network.apply(params, state, steps)
    given = Masked.from_lengths(jnp.asarray(wide), jnp.array([3]))
    assert_close(network.apply(params, state, given)[0], wanted, 1e-6)
    assert np.abs(network.apply(params, state, wide)[0] - wanted).max() > 1e-2


def test_cross_attention_masks_each_side():
    network = jaxnn.attention(4, heads=2)
    queries, memory = real(2, 3, 4), real(2, 5, 4, seed=1)
    params, state = network.init(jax.random.key(0), (queries, memory))
    padded = memory.copy()
    padded[0, 2:] = np.nan
    memory_lengths = jnp.array([2, 5])
    outputs, _ = network.apply(
        params, state, (queries, Masked.from_lengths(jnp.asarray(padded), memory_lengths))
    )
    for row, length in enumerate((2, 5)):
        one = np.s_[row : row + 1]
        alone, _ = network.apply(params, state, (queries[one], memory[one, :length]))
        assert_close(outputs[one], alone, 2e-6)


# --- What is refused -----------------------------------------------------------------------------


UNAWARE = {
    "flatten": jaxnn.flatten(),
    "group_norm": layers.group_norm(2),
    "stateless": jaxnn.stateless(lambda params, x: x),
    "mlp": jaxnn.mlp([4], 2),
    "conv_transpose": layers.conv_transpose(3, 2),
    "flax": jaxnn.from_flax(nnx.Linear(4, 3, rngs=nnx.Rngs(0))),
}


@pytest.mark.parametrize("network", UNAWARE.values(), ids=UNAWARE)
def test_a_part_that_does_not_know_masks_refuses(network):
    inputs = Masked.from_lengths(jnp.asarray(REAL), jnp.array(LENGTHS))
    with pytest.raises(InvalidType, match="padded sequences"):
        params, state = network.init(jax.random.key(0), REAL)
        network.apply(params, state, inputs)


@pytest.mark.parametrize(
    "arguments, error",
    [
        ((REAL, np.ones((4, 5))), InvalidType),
        ((REAL, np.ones((4, 4), bool)), InvalidValue),
        ((REAL, np.ones(4, bool)), InvalidValue),
        (({"a": REAL}, np.ones((4, 5), bool)), InvalidType),
        ((REAL, np.ones((4, 5), bool), np.ones((4, 3), np.int32)), InvalidValue),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(arguments, error):
    with pytest.raises(error, match="Masked: "):
        Masked(*arguments)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Masked.from_lengths(REAL, [1, 2, 9, 1]), "lengths do not match.*Got 9.*0 to 5"),
        (lambda: Masked.from_lengths(REAL, jnp.array([1, -2, 3, 1])), "lengths.*Got -2"),
        (lambda: Masked.from_lengths(REAL, [1, 2]), r"lengths int64\[2\]; expected.*\[4\]"),
        (lambda: Masked.from_lengths(REAL, np.ones(4)), r"lengths float64\[4\]"),
        (lambda: Masked.from_segments(REAL, np.ones((4, 5))), r"segments float64\[4, 5\]"),
        (lambda: Masked.from_segments(REAL, -np.ones((4, 5), int)), "segments.*Got -1"),
    ],
    ids=["too_long", "negative", "too_few", "floats", "segments_of_floats", "below_0"],
)
def test_lengths_and_segments_that_do_not_fit_are_refused(make, words):
    with pytest.raises(InvalidValue, match=f"Masked: .*{words}"):
        make()


def test_lengths_may_be_a_list_or_traced():
    wanted = [[True] * n + [False] * (5 - n) for n in LENGTHS]
    assert Masked.from_lengths(REAL, [*LENGTHS]).mask.tolist() == wanted
    traced = jax.jit(lambda n: Masked.from_lengths(jnp.asarray(REAL), n).mask)(jnp.array(LENGTHS))
    assert traced.tolist() == wanted
    shapes = jax.eval_shape(Masked.from_lengths, jnp.asarray(REAL), jnp.array(LENGTHS))
    assert shapes.mask.shape == (4, 5)


# --- Without masks -------------------------------------------------------------------------------


@held(NETWORKS, "unmasked")
def test_without_masks_nothing_is_selected(case, monkeypatch):
    """A network of plain inputs is the same program where no mask is known."""
    params, state = jax.eval_shape(case.thing.init, jax.random.key(0), case.data)
    traced = [str(jax.make_jaxpr(case.thing.apply)(params, state, case.data))]
    made = case.make()
    monkeypatch.setattr("jaxnn.masked.Masked.__post_init__", _never)
    traced.append(str(jax.make_jaxpr(made.apply)(params, state, case.data)))
    assert without_addresses(traced[0]) == without_addresses(traced[1])


def _never(self):
    raise AssertionError("a mask is made")


def without_addresses(text):
    import re

    return re.sub("0x[0-9a-f]+", "", text)


def test_plain_sequences_have_no_select():
    """Of recurrent layers and attention to all places, which need no mask of their own."""
    for network in (layers.gru(3), layers.lstm(3), jaxnn.attention(4, heads=2)):
        params, state = network.init(jax.random.key(0), REAL)
        program = jax.make_jaxpr(network.apply)(params, state, REAL)
        assert "select_n" not in {str(op.primitive) for op, _ in operations(program.jaxpr)}
