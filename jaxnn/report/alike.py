"""Determines which settings and data several runs share; unrecorded settings count as unknown.

Metrics of two runs can be compared only if both were computed on the same examples, and losses only
if they are the same function. Checkpoints identify the data of a run by digests.
"""

import re
from collections.abc import Callable
from typing import Any

from jaxnn.formatting import brief
from jaxnn.markup import cut
from jaxnn.report.phrases import examples_of, listed, setting, spaced
from jaxnn.report.source import Source

# The fields of an identity that are not hyper-parameters.
_OTHERS = {"every", "evaluate_every", "members", "watch", "names", "key", "program", "data"}
_HASH = re.compile(r"[0-9a-f]{10}(-\d+)?")  # a directory without a name given by the user
_PROGRAM = "the program, which is the network, the loss and the optimizer"
_LETTERS = 36  # maximum length of the settings in a name


def is_sweep(source: Source) -> bool:
    """Returns whether a run is a sweep, whose metrics are the means of its best setting."""
    return isinstance(source.result.get("runs"), int) and bool(source.fields and source.metric)


def networks(source: Source) -> int:
    """Returns the number of networks of which the metrics of a sweep are the means."""
    return source.settings[0].runs - source.settings[0].diverged


def chosen(source: Source) -> dict[str, Any]:
    """Returns the hyper-parameters of a run; for a sweep, those of its best setting."""
    known = source.identity
    single = known.get("members") is None
    values = {
        name: value
        for name, value in known.items()
        if name not in _OTHERS and not name.startswith("data ")
        if single or name in ("steps", "batch_size")  # a population has digests instead
    }
    values |= source.config
    if is_sweep(source):
        seeds = list(dict.fromkeys(row["seed"] for row in source.table))
        values |= source.settings[0].values | {"seed": seeds}
        values = {n: value for n, value in values.items() if n not in ("sweep", "seeds")}
    return values


def differing(runs: dict[str, Source]) -> list[str]:
    """Returns the hyper-parameters that differ between the runs, or are unknown for some."""
    each = [chosen(source) for source in runs.values()]
    fields = list(dict.fromkeys(field for values in each for field in values))
    return [f for f in fields if len({brief(v[f], 9) if f in v else None for v in each}) > 1]


def labelled(runs: dict[str, Source]) -> dict[str, Source]:
    """Returns the runs by descriptive names; a run named by a hash has the hash at the end."""
    fields, labels = [name for name in differing(runs) if name != "steps"], {}
    for name, source in runs.items():
        values = {f: v for f, v in chosen(source).items() if isinstance(v, str | int | float)}
        words = [f"{spaced(field)} {setting(values[field])}" for field in fields if field in values]
        while len(", ".join(words)) > _LETTERS:
            words.pop()
        head = " · ".join(filter(None, [_experiment(source), ", ".join(words)]))
        labels[f"{head} ({name})" if _is_hashed(source) else name] = source
    return labels


def _is_hashed(source: Source) -> bool:
    return _HASH.fullmatch(source.contents.path.resolve().name) is not None


def _experiment(source: Source) -> str:
    """Returns what a run named by a hash is: its experiment, or the folder that it is in."""
    name = source.about.experiment or source.contents.path.resolve().parent.name
    return f"{name} sweep" if is_sweep(source) else str(name)


def short(runs: dict[str, Source]) -> dict[str, str]:
    """Returns names that fit next to the ends of curves, by the names of the runs.

    For a run named by a hash, this is its experiment, or the hash if experiments are equal.
    """
    hashed = {name: source for name, source in runs.items() if _is_hashed(source)}
    names = {name: name for name in runs}
    heads = names | {name: _experiment(source) for name, source in hashed.items()}
    ends = names | {name: source.contents.path.resolve().name for name, source in hashed.items()}
    return next(each for each in (heads, ends, names) if len(set(each.values())) == len(runs))


def facts(runs: dict[str, Source]) -> tuple[list[str], list[str], list[str]]:
    """Returns the facts that differ, are equal, and are unknown, apart from hyper-parameters."""
    each = [source.identity for source in runs.values()]
    parts = dict.fromkeys(name for known in each for name in known if name.startswith("data "))
    names = {name: f"the {examples_of(name.removeprefix('data '))}" for name in parts}
    differ, same, unknown = [], [], []
    for name, words in ({"data": "the training examples"} | names | {"program": _PROGRAM}).items():
        # A run with a known identity that lacks this field was trained without it.
        values = [known.get(name, "none" if known else None) for known in each]
        distinct = {str(value) for value in values if value is not None}
        (differ if len(distinct) > 1 else unknown if None in values else same).append(words)
    return differ, same, unknown


def obstacle(runs: dict[str, Source], metric: str) -> str | None:
    """Returns the reason why the runs cannot be ranked by a metric, or `None`."""
    part, _, name = metric.partition("/")
    data = _known(runs, lambda source: data_of(source, part))
    if len(data) > 1:
        return f"the {examples_of(part)} are not the same"
    experiments = _known(runs, lambda source: source.about.experiment)
    if not data and len(experiments) > 1:
        names = listed([cut(each, 60) for each in sorted(experiments)])
        return f"they are of different experiments, {names}"
    if not name.endswith("loss"):
        return None
    kinds = _known(runs, lambda source: source.recorded.about.get("kind"))
    # Different losses are distinguished by the other reported metrics.
    start, rate = f"{part}/", f"{part}/learning_rate"
    names = ((n for n in s.outcome if n.startswith(start) and n != rate) for s in runs.values())
    reported = {*map(frozenset, names)}
    if len(kinds) > 1 or len(reported) > 1:
        return "they report different metrics, so that their losses need not be the same function"
    return None


def _known(runs: dict[str, Source], of: Callable[[Source], Any]) -> set[str]:
    return {str(value) for value in map(of, runs.values()) if value is not None}


def data_of(source: Source, part: str) -> Any:
    """Returns the digest of a dataset; `None` if it is unknown."""
    return source.identity.get("data" if part == "train" else f"data {part}")
