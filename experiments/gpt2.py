"""GPT-2 learns from token files, which may be far larger than memory.

    python -m experiments.gpt2                                 # small, on tiny Shakespeare
    python -m experiments.gpt2 --preset gpu --data FOLDER      # GPT-2 with 124M parameters

`FOLDER` contains `train*.bin` and `val*.bin`: flat arrays of tokens, as nanoGPT's `prepare.py`
writes them. By default, the experiment writes these files from tiny Shakespeare, with
one token per byte. The large presets use nanoGPT's sizes, optimizer and schedule for OpenWebText
(Karpathy 2022, https://github.com/karpathy/nanoGPT). Several devices share the batch and the
parameters.
"""

import math
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np

import jaxnn
from experiments.char_gpt import optimizer
from experiments.command import command
from experiments.fields import Hparam, hparams


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters."""

    preset: Literal["cpu", "gpu", "tpu"] = "cpu"  # sizes for this type of device
    data: str | None = None  # folder with train*.bin and val*.bin (default: tiny Shakespeare)
    dtype: Literal["uint16", "uint32"] | None = None  # of the tokens (default: uint16, checked)
    learning_rate: Hparam = 6e-4  # peak step size of AdamW
    weight_decay: Hparam = 0.1  # weight decay of AdamW, multiplied by the step size
    warm_up: int = 200  # steps until the peak step size
    steps: int | None = None  # training steps (default: from the preset)
    batch_size: int | None = None  # windows per step, over all devices (default: from the preset)
    parts: int = 1  # gradient accumulation: parts of a batch, to save memory
    output_parts: int | None = None  # parts in which logits are computed (default: from the preset)
    seed: int = 0  # random seed for initialization and the order of the windows


class Size(NamedTuple):
    """The sizes of a preset."""

    vocabulary: int
    layers: int
    heads: int
    features: int
    context: int
    batch_size: int
    output_parts: int
    steps: int


LARGE = Size(50_304, 12, 12, 768, 1024, 480, 6, 600_000)
PRESETS = {"cpu": Size(256, 2, 4, 64, 64, 12, 1, 1000), "gpu": LARGE, "tpu": LARGE}


def network(config: Config) -> jaxnn.Network:
    """Returns the transformer; large ones use bfloat16, stacked blocks and rematerialization."""
    size, large = PRESETS[config.preset], config.preset != "cpu"
    model = jaxnn.gpt(
        size.vocabulary, layers=size.layers, heads=size.heads, features=size.features,
        positions=size.context, bias=False, stacked=large, remat="nothing" if large else None,
    )  # fmt: skip
    return jaxnn.mixed_precision(model) if large else model


def write_text(folder: Path) -> Path:
    """Writes tiny Shakespeare as token files, with the last tenth for testing."""
    text = np.frombuffer(jaxnn.datasets.tiny_shakespeare().encode(), np.uint8).astype(np.uint16)
    border = int(0.9 * len(text))
    text[:border].tofile(folder / "train.bin")
    text[border:].tofile(folder / "val.bin")
    return folder


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Trains on windows of the training files, and evaluates on the validation files."""
    size = PRESETS[config.preset]
    steps = size.steps if config.steps is None else config.steps
    batch_size = config.batch_size or size.batch_size
    output_parts = math.gcd(batch_size // config.parts, size.output_parts)
    learner = jaxnn.learner(
        network(config),
        jaxnn.next_token(),
        optimizer(config.warm_up, steps, b2=0.95),
        output_parts=config.output_parts or output_parts,
    )
    learner = jaxnn.accumulate(learner, config.parts) if config.parts > 1 else learner
    several = config.preset != "cpu" and len(jax.devices()) > 1
    with tempfile.TemporaryDirectory() as written:
        folder = Path(config.data) if config.data else write_text(Path(written))
        read = partial(jaxnn.streams.tokens, length=size.context + 1, dtype=config.dtype)
        train = read(folder / "train*.bin")
        val = read(folder / "val*.bin", stride=size.context)
        return jaxnn.fit(
            learner,
            jaxnn.stream(train, batch_size=batch_size),
            steps=steps,
            key=jaxnn.keys(config.seed),
            hparams=hparams(config),
            every=max(1, min(1000, steps // 10)),
            evaluate=jaxnn.stream(val, batch_size=min(64, len(val))),
            rules=jaxnn.scale.fsdp if several else None,
            out=out,
            **options,
        )


if __name__ == "__main__":
    command(Config, main)
