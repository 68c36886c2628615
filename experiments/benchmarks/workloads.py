"""The workloads to measure, with their contenders and the bars for jaxnn."""

from collections.abc import Callable
from functools import partial
from typing import Any

from experiments.benchmarks import (
    classifiers,
    cold,
    ensemble,
    evaluation,
    gpt,
    libraries,
    nano_gpt,
    overhead,
    roofline,
    scaling,
    streams,
    sweep,
)
from experiments.benchmarks.harness import Bar, Contender, Figure, Workload

JAXNN, SCAN, STEP = "jaxnn", "JAX by hand, one scan", "JAX by hand, jitted step"
LINEN, NNX, EQUINOX, KERAS = "Flax Linen", "Flax NNX", "Equinox", "Keras"
TORCH, FUSED, COMPILED = "PyTorch", "PyTorch, fused", "PyTorch, compiled"
OVERHEAD = Bar((SCAN,), 1.03)
MEMORY = Bar((SCAN,), 1.1, "memory")

CLASSIFIERS = {
    JAXNN: Contender(classifiers.ours, ("jaxnn",)),
    SCAN: Contender(classifiers.scan, ("optax",)),
    STEP: Contender(classifiers.jitted, ("optax",)),
    LINEN: Contender(libraries.linen, ("flax",)),
    NNX: Contender(libraries.nnx, ("flax",)),
    EQUINOX: Contender(libraries.equinox, ("equinox",)),
    KERAS: Contender(libraries.keras, ("keras",)),
    TORCH: Contender(partial(libraries.torch, fused=False), ("torch",)),
    FUSED: Contender(libraries.torch, ("torch",)),
    COMPILED: Contender(partial(libraries.torch, compiled=True), ("torch",)),
}

KLAX, TURBANET = "klax's ensemble", "TurbaNet"
COLD_AND_WARM: tuple[Figure, ...] = ("first", "again")
COLD = {JAXNN: Contender(cold.first_epoch, ("jaxnn",))} | {
    name: each for name, each in CLASSIFIERS.items() if name not in (JAXNN, TORCH, COMPILED)
}
DIGITS = {
    JAXNN: Contender(cold.digits, ("jaxnn",)),
    KERAS: Contender(cold.keras, ("keras", "sklearn")),
}
SIZES = {"width": (128, 512), "depth": (2, 8), "examples": (2048, 8192), "runs": (8, 32)}
GROWTH = {"width": 4, "depth": 4, "examples": 1, "runs": 4}  # the batch size does not change
convnet = partial(classifiers.mnist, channels=(32, 64), hidden=(128,), steps=100)


def fitting(given: Callable[[bool], Any], title: str, **options: Any) -> Workload:
    """Returns the workload that compares `fit` with a plain scan."""
    contenders = {"jaxnn": Contender(overhead.fit, ("jaxnn",)), SCAN: CLASSIFIERS[SCAN]}
    return Workload(f"{title}, a step of `fit`", given, contenders, bars=(OVERHEAD,), **options)


WORKLOADS = {
    "mlp": Workload(
        "MNIST by 784-256-256-10 with Adam, a step of 128 examples",
        classifiers.mnist,
        CLASSIFIERS,
        bars=(
            OVERHEAD,
            MEMORY,
            Bar((LINEN,), 1 / 1.15),
            Bar((FUSED,), 1 / 1.3),
            Bar((KERAS,), 1 / 1.4),
            Bar((NNX,), 1 / 1.4),
            Bar((EQUINOX,), 1 / 1.6),
        ),
    ),
    "tiny": Workload(
        "a circle by 2-16-2 with Adam, a step of 32 examples",
        classifiers.circle,
        CLASSIFIERS,
        unit="us",
        bars=(
            OVERHEAD,
            Bar((STEP,), 1 / 12),
            *(Bar((name,), 1 / 60) for name in (FUSED, KERAS, EQUINOX)),
            Bar((NNX,), 1 / 120),
        ),
    ),
    "convnet": Workload(
        "MNIST by two blocks of convolution and pooling, 128 nodes and 10, a step of 128 examples",
        convnet,
        CLASSIFIERS,
        rounds=3,
        bars=(
            OVERHEAD,
            MEMORY,
            *(Bar((name,), 1.0) for name in CLASSIFIERS if name not in (JAXNN, SCAN)),
        ),
    ),
    "gpt": Workload(
        "nanoGPT's sizes for a CPU, a step of 12 times 64 characters",
        gpt.given,
        {
            JAXNN: Contender(gpt.ours, ("jaxnn",)),
            SCAN: Contender(gpt.by_hand, ("optax",)),
            FUSED: Contender(nano_gpt.nano_gpt, ("torch",)),
            COMPILED: Contender(partial(nano_gpt.nano_gpt, compiled=True), ("torch",)),
        },
        learned="loss",
        bars=(OVERHEAD, MEMORY, Bar((FUSED,), 1 / 1.5), Bar((COMPILED,), 1 / 1.5)),
    ),
    "sweep": Workload(
        "256 networks 64-64-10 on digits, 20 epochs each, until all are tested",
        sweep.given,
        {
            JAXNN: Contender(sweep.ours, ("jaxnn",)),
            LINEN: Contender(sweep.linen, ("flax",)),
            "scikit-learn": Contender(sweep.scikit_learn, ("sklearn", "joblib")),
            FUSED: Contender(sweep.torch, ("torch",)),
            KERAS: Contender(sweep.keras, ("keras",)),
        },
        unit="s",
        rounds=3,
        fresh=True,
        bars=(
            Bar(("scikit-learn",), 1 / 4, "first", "again"),
            Bar((FUSED,), 1 / 8, "first", "again"),
            Bar(("scikit-learn",), 1 / 9),
            Bar((FUSED,), 1 / 16),
        ),
    ),
    "ensemble": Workload(
        "64 networks 64-64-10 on digits, 20 epochs, until all are tested",
        ensemble.given,
        {
            JAXNN: Contender(sweep.ours, ("jaxnn",)),
            SCAN: Contender(ensemble.scan, ("optax",)),
            KLAX: Contender(ensemble.klax, ("equinox",)),
            TURBANET: Contender(ensemble.turbanet, ("turbanet",)),
        },
        unit="s",
        rounds=3,
        fresh=True,
        bars=(
            OVERHEAD,
            *(Bar((peer,), 1.0, figure) for peer in (KLAX, TURBANET) for figure in COLD_AND_WARM),
        ),
    ),
    "eval": Workload(
        "the loss and accuracy of 10,000 images by 784-256-256-10, in batches of 512",
        evaluation.given,
        {
            JAXNN: Contender(evaluation.ours, ("jaxnn",)),
            SCAN: Contender(evaluation.scan, ("optax",)),
            STEP: Contender(evaluation.jitted, ("optax",)),
            KERAS: Contender(evaluation.keras, ("keras",)),
            TORCH: Contender(evaluation.torch, ("torch",)),
            COMPILED: Contender(partial(evaluation.torch, compiled=True), ("torch",)),
        },
        learned="loss",
        bars=(OVERHEAD, *(Bar((name,), 1.0) for name in (KERAS, TORCH, COMPILED))),
    ),
    "cold": Workload(
        "the first epoch of `mlp` in a new process, initializing and compiling included",
        classifiers.mnist,
        COLD,
        unit="s",
        figure="first",
        rounds=3,
        fresh=True,
        bars=(Bar((LINEN,), 0.8, "first"),),
    ),
    "cold_cached": Workload(
        "the first epoch of `mlp` in a new process, with a full compile cache",
        classifiers.mnist,
        {name: each for name, each in COLD.items() if each.packages != ("torch",)},
        unit="s",
        figure="first",
        rounds=3,
        fresh=True,
        cached=True,
        bars=(Bar((LINEN,), 1.0, "first"),),
    ),
    "digits": Workload(
        "the whole process of `digits`; that of jaxnn with its page and picture",
        cold.epochs,
        DIGITS,
        unit="s",
        figure="process",
        rounds=3,
        fresh=True,
        bars=(Bar((KERAS,), 1.0, "process"),),
    ),
    "digits_cached": Workload(
        "the whole process of `digits`, with a full compile cache",
        cold.epochs,
        DIGITS,
        unit="s",
        figure="process",
        rounds=3,
        fresh=True,
        cached=True,
        bars=(Bar((KERAS,), 0.6, "process"),),
    ),
    "overhead_mlp": fitting(classifiers.mnist, "MNIST by 784-256-256-10"),
    "overhead_tiny": fitting(classifiers.circle, "a circle by 2-16-2", unit="us"),
    "overhead_convnet": fitting(convnet, "MNIST by a convolutional network", rounds=3),
    "roofline": Workload(
        "a step of `mlp`, compared with its parts, and its operations at the cores' best rate",
        classifiers.mnist,
        {
            JAXNN: Contender(classifiers.ours, ("jaxnn",)),
            "products": Contender(roofline.products, ("jax",)),
            "Adam": Contender(roofline.adam, ("optax",)),
            "gather": Contender(roofline.gather, ("jax",)),
            "peak": Contender(roofline.peak, ("jax",)),
        },
        bars=(Bar(("products", "Adam", "gather"), 1.15),),
    ),
    "scaling": Workload(
        "a step of jaxnn at one and at four times a size, an MLP on batches of 64",
        scaling.given,
        {
            f"{name} {size}": Contender(
                partial(scaling.ours, size=scaling.Size(**{name: size})), ("jaxnn",)
            )
            for name, sizes in SIZES.items()
            for size in sizes
        },
        rounds=5,
        bars=tuple(
            Bar((f"{name} {small}",), 1.1 * GROWTH[name], ours=f"{name} {large}")
            for name, (small, large) in SIZES.items()
        ),
    ),
    "input": Workload(
        "a pass over images in a file, a shuffled batch of 128",
        streams.given,
        {
            JAXNN: Contender(streams.ours, ("jaxnn",)),
            "Grain": Contender(streams.grain, ("grain", "jax")),
            TORCH: Contender(streams.torch, ("torch",)),
            "PyTorch, 2 workers": Contender(partial(streams.torch, workers=2), ("torch",)),
            "PyTorch, batched": Contender(partial(streams.torch, whole=True), ("torch",)),
        },
        rounds=3,
        learned="million",
        bars=tuple(
            Bar((name,), 1.0) for name in ("Grain", TORCH, "PyTorch, 2 workers", "PyTorch, batched")
        ),
    ),
}
