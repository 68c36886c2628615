"""A GPT that writes like Shakespeare learns another author's style, by few weights.

    python -m experiments.lora_finetune

First `char_gpt` is trained; then it learns the pages of Python's own documentation, which lie
in every installation (`pydoc_data`): by low-rank adapters of its matrices, which are a tenth of its
weights, and by all of them. Characters that Shakespeare has not are left out of the pages. In the
end the adapters are merged into the weights, and write `page.txt`.
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

    rank: int = 8  # of the adapters: each weight is adjusted by so many pairs of vectors
    learning_rate: float = 5e-3  # step size of AdamW for the adapters
    all_learning_rate: float = 1e-3  # that for all weights
    batch_size: int = 12  # windows in a training step
    steps: int = 1000  # training steps of either
    base_steps: int | None = None  # those of the network that is adapted (default: char_gpt's)
    page: int = 1000  # characters to write at the end
    seed: int = 0  # decides initialisation, the windows of the texts and the page


def pages(characters: jaxnn.Characters) -> np.ndarray:
    """Returns the documentation as tokens, without the characters that are not known."""
    known = set(characters.all)
    return characters.encode("".join(c for c in "\n".join(topics.values()) if c in known))


def writing(model: jaxnn.Network, params, state, config: Config) -> str:
    """Returns a page."""
    characters = jaxnn.Characters(jaxnn.datasets.tiny_shakespeare())
    written = jaxnn.generate(
        model, params, state, characters.encode("\n")[None], config.page, temperature=0.8,
        key=jax.random.key(config.seed), context=char_gpt.PRESETS["cpu"].context,
    )  # fmt: skip
    return characters.decode(np.asarray(written[0]).tolist())


def main(config: Config, out: jaxnn.Directory) -> jaxnn.Run:
    """Trains on Shakespeare, and adapts to the first nine tenths of the other text."""
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
