"""A grid search of 64 settings on 5 folds of the digits, by jaxnn and by scikit-learn.

    python -m experiments.benchmarks.search           # a few minutes on two cores

`jaxnn.sklearn.GridSearch(Classifier)` trains its 320 fits as one program with a device per core,
and `GridSearchCV(MLPClassifier, n_jobs=2)` in two processes. Both search eight learning rates and
eight penalties for a network 64-32-10, train 40 epochs in batches of 16, and refit the best on all
digits. The figure is the time of `fit`, measured in turn and in a new process each; `cold`
includes compilation, and `warm` is a second search in that process. The time that scikit-learn
needs to start its processes is excluded. CPU seconds include all processes and threads; they are
less sensitive to other load on the machine.
"""

import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

RATES = np.geomspace(1e-9, 1e-3, 8).tolist()
PENALTIES = [1e-3, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]
SETTINGS: dict[str, Any] = {
    "batch_size": 16,
    "max_iter": 40,
    "n_iter_no_change": 40,
    "random_state": 0,
}
Package = Literal["jaxnn", "sklearn"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """How to measure."""

    repeats: int = 3  # times that each is measured
    only: Package | None = None  # measure this one, once, in this process, and print JSON


def search(package: Package) -> dict[str, object]:
    """Returns the seconds of a search by name, and its result."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPClassifier

    from jaxnn.sklearn import Classifier, GridSearch

    warnings.simplefilter("ignore")  # forty epochs do not converge
    os.environ["PYTHONWARNINGS"] = "ignore"
    inputs, labels = load_digits(return_X_y=True)
    inputs = inputs / 16
    grid = {"learning_rate_init": RATES, "alpha": PENALTIES}
    seconds = {}
    if package == "jaxnn":
        jax.config.update("jax_num_cpu_devices", os.cpu_count())
        names, searcher = ("cold", "warm"), GridSearch(Classifier((32,), **SETTINGS), grid, cv=5)
    else:
        estimator = MLPClassifier((32,), **SETTINGS)
        GridSearchCV(estimator, {"max_iter": [1, 2]}, cv=2, n_jobs=2).fit(inputs, labels)
        names, searcher = ("sklearn",), GridSearchCV(estimator, grid, cv=5, n_jobs=2)
    for name in names:
        began, used = time.perf_counter(), cpu_seconds(package)
        searcher.fit(inputs, labels)
        seconds[name] = time.perf_counter() - began
        seconds[f"{name} CPU"] = cpu_seconds(package) - used
    return {"seconds": seconds, "best": searcher.best_params_, "score": searcher.best_score_}


def cpu_seconds(package: Package) -> float:
    """Returns the CPU seconds so far of this process and the worker processes of scikit-learn."""
    seconds = time.process_time()
    if package == "sklearn":
        from joblib.externals.loky import reusable_executor

        for pid in getattr(reusable_executor._executor, "_processes", ()):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            seconds += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return seconds


def measure(config: Config) -> tuple[dict[str, list[float]], dict[str, dict]]:
    """Returns the seconds by name, and the result of the last search of each package."""
    seconds: dict[str, list[float]] = {}
    searches = {}
    for _ in range(config.repeats):
        for package in ("jaxnn", "sklearn"):
            command = [sys.executable, "-m", "experiments.benchmarks.search", "--only", package]
            output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            searches[package] = json.loads(output.splitlines()[-1])
            for name, figure in searches[package]["seconds"].items():
                seconds.setdefault(name, []).append(figure)
                print(f"{name}: {figure:.1f} s", file=sys.stderr)
    return seconds, searches


def main(config: Config) -> None:
    """Runs the searches, and prints a line for each figure."""
    if config.only:
        print(json.dumps(search(config.only)))
        return
    seconds, searches = measure(config)
    peer = statistics.median(seconds["sklearn"])
    for name, figures in seconds.items():
        median = statistics.median(figures)
        spread = f"{min(figures):.1f} to {max(figures):.1f}"
        of = statistics.median(seconds["sklearn CPU"]) if name.endswith("CPU") else peer
        print(f"{name:12}{median:7.1f} s ({spread}), scikit-learn takes {of / median:.1f} times")
    for package, each in searches.items():
        library = "scikit-learn" if package == "sklearn" else "jax"
        print(f"{library} {version(library)}: {each['best']}, {each['score']:.4f}")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, prog="python -m experiments.benchmarks.search", description=__doc__))
