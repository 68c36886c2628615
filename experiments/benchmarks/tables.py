"""The network of `experiments.table` beside scikit-learn's gradient boosting and MLP.

    python -m experiments.benchmarks.tables            # five folds of five tables, about 5 minutes
    python -m experiments.benchmarks.tables --write    # writes the tables themselves again

All three train on the same rows in each fold, and stop early by a part that they hold out
themselves: boosting and the MLP with `early_stopping`, the network with a validation set of the
same fraction. The scores, accuracy or R2 on the rows of the fold, are added to the recorded
results.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

import jaxnn
from experiments.__main__ import HERE, experiments, readme
from experiments.table import Config, trained

FOLDER = HERE / "tables"
TABLES = {
    "wine": Config(),
    "breast_cancer": Config(data=FOLDER / "breast_cancer.csv", labels=("diagnosis",)),
    "diabetes": Config(data=FOLDER / "diabetes.csv", labels=("progression",)),
    "customers": Config(data=FOLDER / "customers.csv", labels=("status",), ignore=("id",)),
    "rides": Config(data=FOLDER / "rides.tsv", labels=("rides",)),
}


def scores(config: Config, folds: int = 5) -> dict[str, list[float]]:
    """Returns the score of each method on each fold."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    table = jaxnn.read_table(config.data).drop_nulls(config.labels)
    [label] = config.labels
    options = {"labels": label, "ignore": config.ignore}
    classes = jaxnn.fit_columns(table, **options).task == "classification"
    stratify = label if classes else None
    boosting = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    network = MLPClassifier if classes else MLPRegressor
    reached: dict[str, list[float]] = {"jaxnn": [], "boosting": [], "mlp": []}
    for rest, held_out in jaxnn.fold_table(table, folds, stratify=stratify):
        train, validation = jaxnn.split_table(rest, 0.2, stratify=stratify)
        columns, run = trained(config, train, {"validation": validation}, quiet=True)
        predicted = columns.decode(run.predict(columns.encode(held_out)["inputs"]))[label]
        reached["jaxnn"].append(score(held_out[label].to_numpy(), predicted.to_numpy(), classes))

        columns = jaxnn.fit_columns(rest, one_hot=True, **options)
        truth = {
            name: part[label].to_numpy() for name, part in (("rest", rest), ("held", held_out))
        }
        stopping = {"early_stopping": True, "validation_fraction": 0.2, "random_state": 0}
        mlp = network(hidden_layer_sizes=config.hidden, max_iter=500, **stopping)
        scale = (lambda y: y) if classes else columns.labels[0].scale.encode
        back = (lambda y: y) if classes else columns.labels[0].scale.decode
        mlp.fit(columns.encode(rest)["inputs"], scale(truth["rest"]))
        predicted = back(mlp.predict(columns.encode(held_out)["inputs"]))
        reached["mlp"].append(score(truth["held"], predicted, classes))

        trees = boosting(**stopping)
        trees.fit(columns.encode(rest)["inputs"], truth["rest"])
        predicted = trees.predict(columns.encode(held_out)["inputs"])
        reached["boosting"].append(score(truth["held"], predicted, classes))
    return reached


def score(truth: np.ndarray, predicted: np.ndarray, classes: bool) -> float:
    """Returns the accuracy for classes, or R2 for numbers."""
    if classes:
        return float(np.mean(truth == predicted))
    return float(1 - np.mean((truth - predicted) ** 2) / np.var(truth))


def main(write: bool = False, only: tuple[str, ...] = tuple(TABLES)) -> None:
    """Compares, prints the scores, and adds them to the recorded results.

    Args:
      write: write the tables instead
      only: names of tables
    """
    if write:
        return written()
    recorded = {r["config"]: p for p in HERE.glob("results/table*.json") for r in [_read(p)]}
    for name in only:
        reached = scores(TABLES[name])
        words = {k: f"{np.mean(v):.4f} +- {np.std(v):.4f}" for k, v in reached.items()}
        print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in words.items()), flush=True)
        if path := recorded.get(name):
            result = json.loads(path.read_text())
            result |= {f"folds/{method}": float(np.mean(v)) for method, v in reached.items()}
            path.write_text(json.dumps(result, indent=2) + "\n")
    (HERE / "README.md").write_text(readme(experiments()))


def _read(path: Path) -> dict[str, str]:
    """Returns `{"config": name}` with the name of the table of a recorded result."""
    command = json.loads(path.read_text())["command"].split()
    return {
        "config": Path(command[command.index("--data") + 1]).stem if "--data" in command else "wine"
    }


def written() -> None:
    """Writes three tables of scikit-learn, and two that imitate real-world files."""
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

    sets: list[Any] = [load_wine(as_frame=True), load_breast_cancer(as_frame=True)]
    sets.append(load_diabetes(as_frame=True, scaled=False))
    wine, cancer, diabetes = (one.frame for one in sets)
    wine["class"] = np.array(["barolo", "grignolino", "barbera"])[wine.pop("target")]
    wine = wine.rename(columns={"od280/od315_of_diluted_wines": "od280_od315"})
    cancer["diagnosis"] = np.array(["malignant", "benign"])[cancer.pop("target")]
    diabetes = diabetes.rename(columns={"target": "progression"})
    wine.to_csv(FOLDER / "wine.csv", index=False)
    cancer.to_csv(FOLDER / "breast_cancer.csv", index=False)
    diabetes.to_csv(FOLDER / "diabetes.csv", index=False)
    (FOLDER / "customers.csv").write_text(customers())
    (FOLDER / "rides.tsv").write_text(rides())


def customers(count: int = 1500) -> str:
    """Returns a table of customers with semicolons, decimal commas, gaps, dates and comments."""
    draw = np.random.default_rng(0)
    plans, places = ["basic", "family", "pro"], ["Bonn", "Köln", "Ulm", "Zürich", "Łódź"]
    lines = ["id;since;plan;city;age;spent;newsletter;comment;status"]
    for row in range(count):
        plan, city, age = (
            draw.integers(3),
            draw.choice(5, p=[0.4, 0.25, 0.2, 0.1, 0.05]),
            draw.integers(18, 85),
        )
        spent, letter, days = (
            np.exp(draw.normal(4, 0.8)),
            draw.random() < 0.4,
            draw.integers(0, 3000),
        )
        since = np.datetime64("2018-01-01") + int(days)
        mood = (
            0.9 * (plan - 1) + 1.2 * np.log(spent / 55) - days / 1800 + 1.2 * letter * (plan == 0)
        )
        mood += 0.8 * (city == 1) - 1.1 * (age > 60) * (city != 1) + 0.8 * draw.normal()
        status = ["leaves", "stays", "buys more"][int(np.digitize(mood, [-1.4, 0.7]))]
        fields = [
            str(1000 + row),
            str(since),
            plans[plan] if draw.random() > 0.04 else "",
            places[city],
            str(age) if draw.random() > 0.08 else "NA",
            f"{spent:.2f}".replace(".", ",") if draw.random() > 0.06 else "",
            "true" if letter else "false",
            f'"called; no. {row}"',
            status,
        ]
        lines.append(";".join(fields))
    return "\n".join(lines) + "\n"


def rides(count: int = 2000) -> str:
    """Returns a table of hourly bicycle rentals with tabs, times, text, gaps and a count."""
    draw = np.random.default_rng(1)
    weather = ["clear", "cloudy", "rain", "snow"]
    lines = ["start\tweather\tcelsius\twind\tholiday\trides"]
    for _ in range(count):
        hour = int(draw.integers(0, 2 * 365 * 24))
        start = np.datetime64("2024-01-01T00") + hour
        day, clock = hour // 24, hour % 24
        celsius = (
            10 - 12 * np.cos(2 * np.pi * day / 365) + 4 * np.sin(clock / 4) + 3 * draw.normal()
        )
        sky = int(
            draw.choice(4, p=[0.5, 0.3, 0.17, 0.03])
            if celsius < 3
            else draw.choice(3, p=[0.5, 0.3, 0.2])
        )
        wind, holiday = abs(draw.normal(0, 12)), draw.random() < 0.05
        rush = (day % 7 < 5 and not holiday) * (
            np.exp(-((clock - 8) ** 2) / 3) + np.exp(-((clock - 17) ** 2) / 5)
        )
        level = 40 + 300 * rush + 90 * np.exp(-((clock - 15) ** 2) / 20) * (day % 7 >= 5 or holiday)
        level *= (
            [1, 0.85, 0.45, 0.2][sky] * np.clip(celsius / 20 + 0.4, 0.1, 1.4) * (1 - wind / 120)
        )
        fields = [
            f"{start}:00:00",
            weather[sky],
            f"{celsius:.1f}" if draw.random() > 0.05 else "",
            f"{wind:.0f}" if draw.random() > 0.1 else "",
            str(bool(holiday)),
            str(int(draw.poisson(max(level, 1)))),
        ]
        lines.append("\t".join(fields))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import tyro

    tyro.cli(main, prog="python -m experiments.benchmarks.tables")
