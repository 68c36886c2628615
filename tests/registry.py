"""Lists every layer, combinator, model, objective and learner once, for `test_laws.py`.

One line here is enough for a new component to be tested against all laws. If a law does not apply
to a component, its line gives the reason: `exempt={"law": "reason"}`.
"""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxnn
from jaxnn.layers._memory import remembering
from jaxnn.learning._accumulate import accumulate
from jaxnn.learning._average import average
from jaxnn.learning._guard import guard
from jaxnn.learning._scale_loss import scale_loss
from jaxnn.models.flax import from_flax
from jaxnn.transforms._mixed_precision import mixed_precision
from tests import made
from tests.cases import Case, real, whole
from tests.flax_models import LinenModel, NnxModel
from tests.gan import gan_data, gan_learner

# --- Networks ----------------------------------------------------------------------------------

_FLOAT32 = {"internal": "float32"}  # computes in float32 whatever it is given
_ONE_PART = {"parts": "the insides of a Flax model are Flax's; it is one part"}
_MIXED = {"bfloat16": "Flax's batch normalization mixes dtypes, which is forbidden here"}


_PAIRS = [
    ("repeat", "remat"), ("remat", "repeat"), ("mixed_precision", "repeat"), ("repeat", "lora"),
    ("lora", "repeat"), ("mixed_precision", "lora"), ("lora", "freeze"), ("capture", "repeat"),
    ("capture", "mixed_precision"), ("remat", "capture"), ("freeze", "mixed_precision"),
]  # fmt: skip


NETWORKS = [
    Case("linear", lambda: jaxnn.linear(3), real(4, 5)),
    Case("linear_of_time", lambda: jaxnn.linear(3, bias=False, scale=2.0), real(4, 2, 5)),
    Case("activation", lambda: jaxnn.activation(jnp.tanh), real(4, 5)),
    Case("flatten", lambda: jaxnn.flatten(), real(4, 2, 3, 1)),
    Case("conv_1d", lambda: jaxnn.conv(2, 3), real(3, 6, 2)),
    Case("conv_2d", lambda: jaxnn.conv(4, (3, 2), strides=2, padding="VALID"), real(3, 6, 5, 2)),
    Case(
        "conv_groups", lambda: jaxnn.conv(4, 2, groups=2, dilation=2, bias=False), real(3, 5, 6, 4)
    ),
    Case("conv_3d", lambda: jaxnn.conv(2, 2, padding=[(1, 0)] * 3), real(3, 3, 4, 2, 1)),
    Case("depthwise_conv", lambda: jaxnn.layers.depthwise_conv(3, multiplier=2), real(3, 4, 5, 2)),
    Case(
        "depthwise_conv_1d",
        lambda: jaxnn.layers.depthwise_conv(2, strides=2, dilation=2, padding="VALID", bias=False),
        real(3, 7, 3),
    ),
    Case(
        "conv_transpose",
        lambda: jaxnn.layers.conv_transpose(2, (3, 2), strides=2),
        real(3, 3, 2, 3),
    ),
    Case(
        "conv_transpose_1d",
        lambda: jaxnn.layers.conv_transpose(2, 2, padding="VALID"),
        real(3, 4, 2),
    ),
    Case("max_pool", lambda: jaxnn.max_pool(2), real(3, 5, 4, 2)),
    Case(
        "max_pool_same", lambda: jaxnn.max_pool((3, 2), strides=2, padding="SAME"), real(3, 5, 4, 2)
    ),
    Case("avg_pool", lambda: jaxnn.avg_pool(3, strides=1, padding="SAME"), real(3, 6, 2)),
    Case("dropout", lambda: jaxnn.dropout(0.4), real(4, 5)),
    Case("stochastic_depth", lambda: jaxnn.layers.stochastic_depth(0.4), real(4, 5, 2)),
    Case("gru", lambda: jaxnn.layers.gru(3), real(4, 5, 2)),
    Case("gru_reverse", lambda: jaxnn.layers.gru(2, reverse=True), real(4, 3, 2)),
    Case("lstm", lambda: jaxnn.layers.lstm(3), real(4, 5, 2)),
    Case("embedding", lambda: jaxnn.embedding(7, 3), whole(7, 4, 5)),
    Case("layer_norm", lambda: jaxnn.layer_norm(), real(4, 5)),
    Case("rms_norm", lambda: jaxnn.layers.rms_norm(), real(4, 2, 5)),
    Case("group_norm", lambda: jaxnn.layers.group_norm(2), real(4, 3, 2, 4)),
    Case("batch_norm", lambda: jaxnn.batch_norm(), real(4, 3)),
    Case("batch_norm_2d", lambda: jaxnn.batch_norm(momentum=0.5), real(4, 3, 2, 3)),
    Case(
        "standardize",
        lambda: jaxnn.standardize(127.5, 73.6),
        whole(256, 4, 3, dtype=np.uint8),
        exempt={"gradients": "there is nothing to differentiate: no parameters, integer inputs"},
        facts={"bfloat16": jnp.float32},
    ),
    Case(
        "standardize_features",
        lambda: jaxnn.standardize([0.0, 1.0], [2.0, 3.0]),
        real(4, 3, 2),
        facts={**_FLOAT32, "bfloat16": jnp.float32},
    ),
    Case("stateless", made.scaled, real(4, 5)),
    Case("gated", made.gated, real(4, 5)),
    Case(
        "serial",
        lambda: jaxnn.serial(jaxnn.linear(4), ("norm", jaxnn.batch_norm())),
        real(4, 5),
    ),
    Case("serial_of_blocks", made.blocks, real(4, 4)),
    Case(
        "parallel", lambda: jaxnn.parallel(jaxnn.linear(2), ("b", jaxnn.dropout(0.5))), real(4, 3)
    ),
    Case(
        "parallel_combined",
        lambda: jaxnn.parallel(jaxnn.linear(2), jaxnn.linear(1), combine=made.concatenated),
        real(4, 3),
    ),
    Case("residual", lambda: jaxnn.residual(jaxnn.linear(3)), real(4, 3)),
    Case(
        "residual_shortcut",
        lambda: jaxnn.residual(jaxnn.conv(2, 3, strides=2), jaxnn.conv(2, 1, strides=2)),
        real(3, 5, 5, 1),
    ),
    *(made.case_of(*names) for names in [*zip(made.TRANSFORMS), *_PAIRS]),
    Case("attention", lambda: jaxnn.attention(6, heads=2), real(3, 4, 5)),
    Case(
        "attention_causal",
        lambda: jaxnn.attention(
            8, heads=4, kv_heads=2, causal=True, window=3, rotary=100.0, dropout=0.2, bias=False
        ),
        real(3, 5, 8),
    ),
    Case(
        "attention_cross",
        lambda: jaxnn.serial(
            jaxnn.parallel(jaxnn.linear(4), jaxnn.linear(6)), jaxnn.attention(4, heads=2)
        ),
        real(3, 4, 5),
    ),
    Case(
        "attention_that_remembers",
        lambda: remembering(jaxnn.attention(4, heads=2, causal=True), 6),
        real(3, 4, 5),
        {
            "inference": "what it reads goes into its memory, which is its point",
            "examples": "its memory is for a batch of the size that init was given",
            "masked": "its memory is for a batch of the size that init was given",
        },
    ),
    Case("positions", lambda: jaxnn.layers.positions(5), real(3, 4, 2)),
    Case("mlp", lambda: jaxnn.mlp([6, 4], 3, dropout=0.2), real(4, 2, 3)),
    Case(
        "gpt",
        lambda: jaxnn.gpt(7, layers=2, heads=2, features=4, positions=5, dropout=0.1),
        whole(7, 3, 5),
        slow=True,
    ),
    Case(
        "gpt_modern",
        lambda: jaxnn.gpt(
            7, layers=2, heads=2, features=8, form="modern", kv_heads=1, stacked=True
        ),
        whole(7, 3, 5),
        slow=True,
    ),
    Case("convnet", lambda: jaxnn.convnet([2, 3], 5, 4, dropout=0.2), real(3, 8, 8)),
    Case("rnn", lambda: jaxnn.rnn([3], 2, cell="lstm", dropout=0.2), real(4, 3, 2)),
    Case("rnn_every_step", lambda: jaxnn.rnn([2, 3], 2, every_step=True), real(4, 3, 2)),
    Case(
        "resnet",
        lambda: jaxnn.resnet([1, 1], 3, width=2, activation=jnp.tanh, drop=0.3),
        real(3, 4, 4),
        slow=True,
    ),
    Case(
        "resnet_imagenet",
        lambda: jaxnn.resnet(
            [1, 1], 3, form="imagenet", width=2, bottleneck=True, activation=jnp.tanh
        ),
        real(3, 16, 16, 2),
        slow=True,
    ),
    Case(
        "tabular",
        lambda: jaxnn.models.tabular([3, 4], [6], 2, width=3, dropout=0.2),
        {"numbers": real(4, 5), "categories": whole(3, 4, 2)},
    ),
    Case("vae", lambda: jaxnn.vae(jaxnn.mlp([3], 2 * 2), jaxnn.mlp([4], 2 * 3)), real(4, 2, 3)),
    Case("nnx", lambda: from_flax(NnxModel, outputs=3), real(4, 6, 6, 1), _ONE_PART | _MIXED),
    Case(
        "nnx_module", lambda: from_flax(nnx.Linear(5, 3, rngs=nnx.Rngs(0))), real(4, 5), _ONE_PART
    ),
    Case("linen", lambda: from_flax(LinenModel(outputs=3)), real(4, 5), _ONE_PART | _MIXED),
]


# --- Objectives --------------------------------------------------------------------------------

# The `data` of an objective is a batch, which contains the outputs of a network as "outputs".

_CLASSES = {"inputs": real(8, 2), "outputs": real(8, 4), "labels": whole(4, 8)}
_NUMBERS = {"inputs": real(8, 2), "outputs": real(8, 3), "labels": real(8, 3, seed=1)}
_MARKS = {**_NUMBERS, "labels": whole(2, 8, 3, dtype=np.float32)}
_CODED = {
    "inputs": np.abs(np.tanh(real(8, 2, 3))),
    "outputs": {
        "reconstruction": real(8, 2, 3, seed=2),
        "mean": real(8, 2, seed=3),
        "log_variance": 0.5 * real(8, 2, seed=4),
    },
}
_TAUGHT = _CLASSES | {"teacher": real(8, 4, seed=5)}
_FLAT = {"inputs": real(8, 2, 2), "outputs": real(8, 4, seed=2)}
_PAIRS = {"inputs": real(8, 2), "outputs": (real(8, 3), real(8, 3, seed=1))}
_TOKENS = {"inputs": real(8, 5), "outputs": real(8, 5, 4), "labels": whole(4, 8, 5)}
_TEXT = _TOKENS | {"inputs": whole(4, 8, 6)}


_BATCHWISE = {
    "additive": "a loss over a whole batch is not a sum over examples, which is its point",
    "unweighted": "a loss over a whole batch minds the weights itself",
    "shielded": "a loss over a whole batch minds the weights itself",
    "apart": "a loss over a whole batch mixes examples, which is its point",
}

_COMPARED = {
    "additive": "each example is compared with the others of its batch, which is its point",
    "unweighted": "an example that is there twice is also a wrong answer to itself; that weight 0"
    " counts for nothing is in test_objectives_more.py",
    "apart": "each example is compared with the others of its batch, which is its point",
}


OBJECTIVES = [
    Case("classification", lambda: jaxnn.classification(), _CLASSES),
    Case(
        "classification_smooth",
        lambda: jaxnn.classification(label_smoothing=0.1, top_k=2),
        _CLASSES,
    ),
    Case("classification_of_tokens", lambda: jaxnn.classification(top_k=(1, 3)), _TOKENS),
    Case("regression", lambda: jaxnn.regression(), _NUMBERS),
    Case(
        "regression_absolute", lambda: jaxnn.regression(jaxnn.objectives.absolute_error), _NUMBERS
    ),
    Case("regression_huber", lambda: jaxnn.regression(optax.losses.huber_loss), _NUMBERS),
    Case("multi_label", lambda: jaxnn.multi_label(), _MARKS),
    Case("plain_loss", lambda: jaxnn.objective(made.pinball), _NUMBERS),
    Case(
        "augmented", lambda: jaxnn.objectives.augment(jaxnn.classification(), made.noisy), _CLASSES
    ),
    Case("batchwise", lambda: jaxnn.objectives.batchwise(made.spread), _NUMBERS, _BATCHWISE),
    Case("next_token", lambda: jaxnn.next_token(label_smoothing=0.1), _TEXT),
    Case("classification_measured", made.measured, _CLASSES),
    Case("focal", lambda: jaxnn.objectives.focal(gamma=1.5, alpha=(1.0, 0.5, 2.0, 1.0)), _CLASSES),
    Case("info_nce", lambda: jaxnn.objectives.info_nce(), _PAIRS, _COMPARED),
    Case("reconstruction", lambda: jaxnn.objectives.reconstruction(targets=made.flat), _FLAT),
    Case("elbo", lambda: jaxnn.objectives.elbo(beta=2.0), _CODED),
    Case("elbo_gaussian", lambda: jaxnn.objectives.elbo(likelihood="gaussian"), _CODED),
    Case(
        "distilled",
        lambda: jaxnn.objectives.distill(jaxnn.classification(), made.teacher),
        _TAUGHT,
        slow=True,
    ),
]


# --- Learners ----------------------------------------------------------------------------------

# 32 examples in batches of 12: two of three epochs end in the middle of a batch.
EXAMPLES, BATCH = 32, 12


def _classified(inputs):
    return {"inputs": inputs, "labels": whole(3, EXAMPLES)}


_FAST = {"learning_rate": 0.1}
_SLOW = {"learning_rate": 0.01}


def _learned(network, optimizer=made.sgd, objective=jaxnn.classification, **options):
    return lambda: jaxnn.learner(network(), objective(), optimizer, **options)


VECTORS, IMAGES = real(EXAMPLES, 6), real(EXAMPLES, 6, 6, 1)
WEIGHTED = {"weights": np.ones(EXAMPLES, np.float32)}

# A learner is trained with `hparams`, and must reach a loss below `loss` on 32 examples.
LEARNERS = [
    Case(
        "mlp",
        _learned(lambda: jaxnn.mlp([32], 3), objective=lambda: jaxnn.classification(top_k=2)),
        _classified(VECTORS) | WEIGHTED,
        facts={"hparams": _FAST},
    ),
    Case(
        "convnet",
        _learned(lambda: jaxnn.convnet([4], 16, 3)),
        _classified(IMAGES[..., 0]) | WEIGHTED,
        facts={"hparams": _FAST, "ours": True},
    ),
    Case(
        "convolutions",
        _learned(made.two_convolutions, made.adam),
        _classified(IMAGES) | WEIGHTED,
        facts={"hparams": _SLOW, "ours": True},
        slow=True,
    ),
    Case(
        "batch_norm",
        _learned(made.normalized),
        _classified(VECTORS),
        facts={"hparams": _FAST},
    ),
    Case(
        "dropout",
        lambda: jaxnn.learner(made.with_dropout, made.with_smoothing, made.adam),
        _classified(VECTORS) | WEIGHTED,
        facts={
            "hparams": {**_SLOW, "dropout": 0.1, "scale": 1.5, "smoothing": 0.05},
            "loss": 0.4,
        },
    ),
    Case(
        "embedding",
        _learned(made.embedded),
        _classified(whole(7, EXAMPLES, 5)) | WEIGHTED,
        facts={"hparams": _FAST},
    ),
    Case(
        "regression",
        _learned(lambda: jaxnn.mlp([32], 2, activation=jnp.tanh), made.adam, jaxnn.regression),
        {"inputs": VECTORS, "labels": real(EXAMPLES, 2, seed=2)} | WEIGHTED,
        facts={"hparams": _SLOW},
    ),
    Case(
        "nnx",
        _learned(lambda: from_flax(NnxModel, outputs=3), made.adam),
        _classified(IMAGES),
        {
            "device": "before batch normalization a bias has the gradient 0, and Adam makes whole"
            " steps of what rounding leaves of it; by SGD it is in test_device_law.py"
        },
        facts={"hparams": _SLOW, "loss": 0.4},
    ),
    Case(
        "linen",
        _learned(lambda: from_flax(LinenModel(outputs=3))),
        _classified(VECTORS),
        facts={"hparams": _FAST, "loss": 0.4},
    ),
    Case(
        "guarded",
        lambda: guard(_learned(lambda: jaxnn.mlp([32], 3))()),
        _classified(VECTORS) | WEIGHTED,
        facts={"hparams": _FAST},
    ),
    Case(
        "accumulate",
        lambda: accumulate(_learned(lambda: jaxnn.mlp([32], 3))(), 3),
        _classified(VECTORS) | WEIGHTED,
        facts={"hparams": _FAST},
    ),
    Case(
        "output_in_parts",
        _learned(lambda: jaxnn.mlp([32], 3), output_parts=3),
        _classified(VECTORS) | WEIGHTED,
        facts={"hparams": _FAST},
    ),
    Case(
        "averaged",
        lambda: average(_learned(lambda: jaxnn.mlp([32], 3))(), decay=0.9),
        _classified(VECTORS) | WEIGHTED,
        facts={"hparams": _FAST},
    ),
    Case(
        "loss_scaled",
        lambda: scale_loss(_learned(lambda: mixed_precision(jaxnn.mlp([32], 3), jnp.float16))()),
        _classified(VECTORS) | WEIGHTED,
        {"gradient": "float16 is too coarse for differences"},
        {"hparams": _FAST, "half": True},
    ),
    Case(
        "gan",
        gan_learner,
        {"inputs": np.asarray(gan_data(examples=EXAMPLES).arrays["inputs"])},
        {
            "weightless": "its loss is a plain mean: batches of training are always full",
            "overfits": "two players do not converge to a low loss",
            "hparams_are_inputs": "it has no hyper-parameters",
            "gradient": "its Adams have no eps_root, so that relus that are never on give NaN",
        },
    ),
]
