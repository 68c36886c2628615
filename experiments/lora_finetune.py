"""A GPT that writes like Shakespeare learns another style with low-rank adapters (LoRA).

    python -m experiments.lora_finetune

First, `char_gpt` is trained. Then it is fine-tuned on the pages of Python's own documentation,
which are part of every installation (`pydoc_data`): once with low-rank adapters of its matrices,
which have a tenth as many weights, and once with all weights. Characters that do not occur in
Shakespeare are removed from the pages. Finally, the adapters are merged into the weights, and the
merged network writes `page.txt`.
"""

from dataclasses import dataclass, replace
from pydoc_data.topics import topics

import jax
import numpy as np
import optax

import jaxnn
from experiments import char_gpt
from experiments.command import command
from jaxnn.storage.opening import open_directory


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters."""

    rank: int = 8  # rank of the adapters: pairs of vectors per weight matrix
    learning_rate: float = 5e-3  # step size of AdamW for the adapters
    all_learning_rate: float = 1e-3  # step size of AdamW for all weights
    batch_size: int = 12  # windows per training step
    steps: int = 1000  # training steps of each fine-tuning
    base_steps: int | None = None  # training steps of the base network (default: char_gpt's)
    page: int = 1000  # characters to generate at the end
    seed: int = 0  # random seed for initialization, windows and the page


def pages(characters: jaxnn.Characters) -> np.ndarray:
    """Returns the documentation as tokens, without unknown characters."""
    known = set(characters.all)
    return characters.encode("".join(c for c in "\n".join(topics.values()) if c in known))


def writing(model: jaxnn.Network, params, state, config: Config) -> str:
    """Returns a generated page."""
    characters = jaxnn.Characters(jaxnn.datasets.tiny_shakespeare())
    written = jaxnn.generate(
        model, params, state, characters.encode("\n")[None], config.page, temperature=0.8,
        key=jax.random.key(config.seed), context=char_gpt.PRESETS["cpu"].context,
    )  # fmt: skip
    return characters.decode(np.asarray(written[0]).tolist())


def main(config: Config, out: jaxnn.Directory) -> jaxnn.Run:
    """Trains on Shakespeare, and fine-tunes on the first nine tenths of the other text."""
    characters = jaxnn.Characters(jaxnn.datasets.tiny_shakespeare())
    text, context = pages(characters), char_gpt.PRESETS["cpu"].context
    border = int(0.9 * len(text))
    data = jaxnn.windows(text[:border], context + 1, batch_size=config.batch_size)
    held_out = jaxnn.windows(text[border:], context + 1, stride=context, batch_size=64)
    before = char_gpt.Config(steps=config.base_steps, seed=config.seed, page=1)
    model = char_gpt.network(before, len(characters))

    with open_directory(out) as directory:
        base = char_gpt.main(before, replace(directory.part("base"), config=before))
        inputs = jax.ShapeDtypeStruct((1, context), np.int32)
        known = jaxnn.warm_start(model, base.best.params, inputs).network
        adapters = jaxnn.lora(known, {"*/weight": True}, rank=config.rank)
        shape = optax.cosine_decay_schedule(1.0, config.steps, 0.1)
        runs = {}
        for name, network, rate in (
            ("lora", adapters, config.learning_rate), ("all", known, config.all_learning_rate),
        ):  # fmt: skip
            adam = optax.adamw(lambda step, rate=rate: rate * shape(step))
            runs[name] = jaxnn.fit(
                jaxnn.learner(network, jaxnn.next_token(), adam), data, steps=config.steps,
                every=max(1, config.steps // 10), key=jaxnn.keys(config.seed),
                evaluate=held_out, out=directory.part(name),
            )  # fmt: skip
        sizes = {name: sum(x.size for x in jax.tree.leaves(run.state.params))
                 for name, run in runs.items()}  # fmt: skip
        judge = jaxnn.learner(model, jaxnn.next_token(), optax.identity())
        start = base.best._replace(hparams={})
        losses = {"before": jaxnn.evaluate(judge, start, held_out)["loss"]}
        losses |= {name: run.result["test/loss"] for name, run in runs.items()}
        merged = jaxnn.transforms.merge_lora(runs["lora"].state.params, runs["lora"].state.state)
        page = writing(model, *merged, config)
        directory.write("page.txt", page.encode())
        last = runs["lora"].result
        result = {
            "experiment": "lora_finetune",
            "steps": config.steps,
            "seconds": sum(run.result["seconds"] for run in (base, *runs.values())),
            **{f"test/loss_{name}": float(loss) for name, loss in losses.items()},
            **{f"parameters_{name}": size for name, size in sizes.items()},
            **{name: last[name] for name in ("device", "jax")},
        }
        directory.finish(result)
    print(page)
    return replace(runs["lora"], result=result, out=directory.path)


if __name__ == "__main__":
    command(Config, main, sweeps=True)
