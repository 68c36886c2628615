"""A small GPT learns to write like Shakespeare, character by character, and writes a page.

    python -m experiments.char_gpt                                         # a minute on a CPU
    python -m experiments.char_gpt --preset gpu --learning-rate 1e-3       # better text, on a GPU

The sizes, the optimizer and the schedule are those of nanoGPT's two examples for the same text
(Karpathy 2022, https://github.com/karpathy/nanoGPT), whose validation losses are 1.88 and 1.4697
nats per character. Only the default learning rate differs: it is twice nanoGPT's. With nanoGPT's
rate, both reach 1.90. The test loss is measured over the whole last tenth of the text. The run
directory contains the page, `page.txt`; `report.html` shows samples from different stages of
training.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import numpy as np
import optax

import jaxnn
from experiments.command import command
from experiments.fields import Hparam, hparams


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters."""

    preset: Literal["cpu", "gpu"] = "cpu"  # the sizes of nanoGPT's example for this device
    form: Literal["gpt2", "modern"] = "gpt2"  # variant of the transformer, see jaxnn.gpt
    learning_rate: Hparam = 2e-3  # peak step size of AdamW
    weight_decay: Hparam = 0.1  # weight decay of AdamW, multiplied by the step size
    warm_up: int = 100  # steps until the peak step size
    steps: int | None = None  # training steps (default: from the preset)
    page: int = 1000  # characters to generate at the end
    temperature: float = 0.8  # sampling temperature; lower values favour likely characters
    seed: int = 0  # random seed for initialization, windows, dropout and the page


class Size(NamedTuple):
    """The sizes of a preset."""

    layers: int
    heads: int
    features: int
    context: int
    batch_size: int
    steps: int
    dropout: float


PRESETS = {"cpu": Size(4, 4, 128, 64, 12, 2000, 0.0), "gpu": Size(6, 6, 384, 256, 64, 5000, 0.2)}


def network(config: Config, vocabulary: int) -> jaxnn.Network:
    """Returns the transformer, without biases, as in nanoGPT."""
    size = PRESETS[config.preset]
    return jaxnn.gpt(
        vocabulary, layers=size.layers, heads=size.heads, features=size.features,
        positions=size.context, form=config.form, dropout=size.dropout, bias=False,
    )  # fmt: skip


def optimizer(warm_up: int, steps: int, b2: float):
    """Returns AdamW with warm-up, a cosine decay to a tenth, and weight decay of matrices only."""
    shape = optax.warmup_cosine_decay_schedule(0.0, 1.0, min(warm_up, steps // 2), steps, 0.1)
    matrices = jaxnn.param_labels({"*weight": True, "*": False})
    return lambda h: optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            lambda step: h["learning_rate"] * shape(step), b2=b2,
            weight_decay=h["weight_decay"], mask=matrices,
        ),
    )  # fmt: skip


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Trains on the first nine tenths of the text, and tests on the rest."""
    text, size = jaxnn.datasets.tiny_shakespeare(), PRESETS[config.preset]
    characters, steps = jaxnn.Characters(text), size.steps if config.steps is None else config.steps
    tokens, border = characters.encode(text), int(0.9 * len(text))
    model, length = network(config, len(characters)), size.context + 1
    data = jaxnn.windows(tokens[:border], length, batch_size=size.batch_size)
    held_out = jaxnn.windows(tokens[border:], length, stride=size.context, batch_size=64)
    objective = jaxnn.next_token(vocabulary=characters.all)
    run = jaxnn.fit(
        jaxnn.learner(model, objective, optimizer(config.warm_up, steps, b2=0.99)),
        data,
        steps=steps,
        key=jaxnn.keys(config.seed),
        hparams=hparams(config),
        every=max(1, steps // 10),
        evaluate=held_out,
        watch="test/loss",
        out=out,
        **options,
    )
    if run.members is None and run.out is not None:
        written = jaxnn.generate(
            model, run.best.params, run.best.state, characters.encode("\n")[None], config.page,
            key=jax.random.key(config.seed), temperature=config.temperature, context=size.context,
        )  # fmt: skip
        page = characters.decode(np.asarray(written[0]).tolist())
        if jaxnn.scale.is_first():  # only one process writes
            (run.out / "page.txt").write_text(page)
        print(page)
    return run


if __name__ == "__main__":
    command(Config, main)
