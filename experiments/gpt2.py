"""GPT-2 learns from files of tokens, which may be far larger than memory.

    python -m experiments.gpt2                                 # small, on the text at hand
    python -m experiments.gpt2 --preset gpu --data FOLDER      # GPT-2 of 124M parameters

`FOLDER` holds `train*.bin` and `val*.bin`, tokens of 16 bits one after the other, as nanoGPT's
`prepare.py` writes them; without it the files are written from tiny Shakespeare, a token for each
byte. Sizes, optimizer and schedule of the large presets are nanoGPT's for OpenWebText (Karpathy
2022, https://github.com/karpathy/nanoGPT); several devices share the batch and the parameters.
"""

import tempfile
from dataclasses import dataclass
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

    preset: Literal["cpu", "gpu", "tpu"] = "cpu"  # sizes for such a device
    data: str | None = None  # folder with train*.bin and val*.bin (default: tiny Shakespeare)
    learning_rate: Hparam = 6e-4  # peak step size of AdamW
    weight_decay: Hparam = 0.1  # share of the weights taken off, times the step size, each step
    warm_up: int = 200  # steps until the step size is at its peak
    steps: int | None = None  # training steps (default: those of the preset)
    batch_size: int | None = None  # windows in a step, over all devices (default: the preset's)
    parts: int = 1  # parts of a step, one after another, where memory is short
    seed: int = 0  # decides initialisation and the order of the windows


class Size(NamedTuple):
    """What a preset stands for."""

    vocabulary: int
    layers: int
    heads: int
    features: int
    context: int
    batch_size: int
    steps: int


LARGE = Size(50_304, 12, 12, 768, 1024, 480, 600_000)
PRESETS = {"cpu": Size(256, 2, 4, 64, 64, 12, 1000), "gpu": LARGE, "tpu": LARGE}


def network(config: Config) -> jaxnn.Network:
    """Returns the transformer; a large one in bfloat16, its blocks one program, computed twice."""
    size, large = PRESETS[config.preset], config.preset != "cpu"
    model = jaxnn.gpt(
        size.vocabulary, layers=size.layers, heads=size.heads, features=size.features,
        positions=size.context, bias=False, stacked=large, remat="nothing" if large else None,
    )  # fmt: skip
    return jaxnn.mixed_precision(model) if large else model


def write_text(folder: Path) -> Path:
    """Writes the bytes of tiny Shakespeare as files of tokens, the last tenth for testing."""
    text = np.frombuffer(jaxnn.datasets.tiny_shakespeare().encode(), np.uint8).astype(np.uint16)
    border = int(0.9 * len(text))
    text[:border].tofile(folder / "train.bin")
    text[border:].tofile(folder / "val.bin")
    return folder


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Trains on windows of the files, and tests on those of the others."""
    size = PRESETS[config.preset]
    steps = size.steps if config.steps is None else config.steps
    batch_size = config.batch_size or size.batch_size
    learner = jaxnn.learner(
        network(config), jaxnn.next_token(), optimizer(config.warm_up, steps, b2=0.95)
    )
    learner = jaxnn.accumulate(learner, config.parts) if config.parts > 1 else learner
    several = config.preset != "cpu" and len(jax.devices()) > 1
    with tempfile.TemporaryDirectory() as written:
        folder = Path(config.data) if config.data else write_text(Path(written))
        train = jaxnn.streams.tokens(folder / "train*.bin", size.context + 1)
        val = jaxnn.streams.tokens(folder / "val*.bin", size.context + 1, stride=size.context)
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
