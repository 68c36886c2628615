"""What runs have in common, as far as it was recorded: what is missing is unknown, not equal.

A metric of one run is better than that of another only where both are of the same examples, and a
loss only where it is the same function. Checkpoints know what a run was trained on, by digests.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from jaxnn.catalog import contents
from jaxnn.catalog import entries as catalog
from jaxnn.checks import InvalidValue
from jaxnn.formatting import brief
from jaxnn.markup import cut
from jaxnn.report.phrases import display_name, listed, setting, spaced
from jaxnn.report.source import Source
from jaxnn.report.story import ranked, setting_words, settings

# What an identity holds beside hyper-parameters.
_OTHERS = {"every", "evaluate_every", "members", "watch", "names", "key", "program", "data"}
_HASH = re.compile(r"[0-9a-f]{10}(-\d+)?")  # a directory that nobody has named
_PROGRAM = "the program, which is the network, the loss and the optimizer"
_LETTERS = 36  # of the settings in a name


def identity(source: Source) -> dict[str, Any]:
    """Returns what the checkpoints tell of a run, of a sweep what all of its parts have in common.

    `{}` is of a run without a checkpoint.
    """
    known = source.contents.newest.get("identity")
    if known is not None:
        return known
    try:
        parts = [contents.read(path) for path in catalog.parts(source.contents.path) if source.many]
    except InvalidValue:  # a newer jaxnn has written one
        return {}
    each = [part.newest.get("identity", {}) for part in parts]
    first = each[0] if each else {}
    return {n: v for n, v in first.items() if all(n in e and e[n] == v for e in each)}


def is_sweep(source: Source) -> bool:
    """Whether the metrics of it are the means of its best setting, as those of a sweep are."""
    summed = isinstance(source.result.get("runs"), int) and ranked(source) is not None
    return summed and bool(source.fields)


def chosen(source: Source) -> dict[str, Any]:
    """Returns the hyper-parameters of a run, of a sweep those of its best setting."""
    known = identity(source)
    single = known.get("members") is None
    values = {
        name: value
        for name, value in known.items()
        if name not in _OTHERS and not name.startswith("data ")
        if single or name in ("steps", "batch_size")  # for a population there are digests
    }
    values |= source.config
    if is_sweep(source):
        values |= settings(source)[0].values
        values["seed"] = list(dict.fromkeys(row["seed"] for row in source.table))
        values = {n: value for n, value in values.items() if n not in ("sweep", "seeds")}
    return values


def differing(runs: dict[str, Source]) -> list[str]:
    """Returns the hyper-parameters of which it is not known that all of the runs have the same."""
    each = [chosen(source) for source in runs.values()]
    fields = list(dict.fromkeys(field for values in each for field in values))
    return [f for f in fields if len({brief(v[f], 9) if f in v else None for v in each}) > 1]


def labelled(runs: dict[str, Source]) -> dict[str, Source]:
    """Returns runs by names that say what they are, those by a hash with it at the end."""
    fields = [name for name in differing(runs) if name != "steps"]
    return {_label(name, source, fields): source for name, source in runs.items()}


def _label(name: str, source: Source, fields: Sequence[str]) -> str:
    path = source.contents.path.resolve()
    if not _HASH.fullmatch(path.name):
        return name
    values = chosen(source)
    words = [f"{spaced(f)} {setting(values[f])}" for f in fields if _is_short(values.get(f))]
    while len(", ".join(words)) > _LETTERS:
        words.pop()
    what = str(source.about.experiment or path.parent.name) + " sweep" * is_sweep(source)
    return f"{' · '.join(filter(None, [what, ', '.join(words)]))} ({name})"


def short(names: Sequence[str]) -> dict[str, str]:
    """Returns names that the ends of curves have room for.

    >>> list(short(["digits · rate 1 (40f6b64188)", "mnist (2e31deccb8)"]).values())
    ['digits', 'mnist']
    >>> list(short(["digits · rate 1 (40f6b64188)", "digits (2e31deccb8)"]).values())
    ['40f6b64188', '2e31deccb8']
    """
    ends = {name: name.rpartition(" (")[2].removesuffix(")") for name in names}
    heads = {n: n.removesuffix(f" ({end})").partition(" · ")[0] for n, end in ends.items()}
    each = (heads, ends, {name: name for name in names})
    return next(labels for labels in each if len(set(labels.values())) == len(names))


def _is_short(value: Any) -> bool:
    return isinstance(value, str | int | float)


def facts(runs: dict[str, Source]) -> tuple[list[str], list[str], list[str]]:
    """Returns in what runs differ, are the same, and may be either, beside hyper-parameters."""
    each = [identity(source) for source in runs.values()]
    parts = dict.fromkeys(name for known in each for name in known if name.startswith("data "))
    names = {"data": "the training examples"}
    names |= {part: examples_of(part.removeprefix("data ")) for part in parts}
    names["program"] = _PROGRAM
    differ, same, unknown = [], [], []
    for name, words in names.items():
        # A run of which something is known, but not this, was trained without it.
        values = [known.get(name, "none" if known else None) for known in each]
        distinct = {str(value) for value in values if value is not None}
        (differ if len(distinct) > 1 else unknown if None in values else same).append(words)
    return differ, same, unknown


def obstacle(runs: dict[str, Source], metric: str) -> str | None:
    """Returns why the runs cannot be ranked by a metric; `None` if nothing is known against it."""
    part, _, name = metric.partition("/")
    key = "data" if part == "train" else f"data {part}"
    data = _known(runs, lambda source: identity(source).get(key))
    if len(data) > 1:
        return f"{examples_of(part)} are not the same"
    experiments = _known(runs, lambda source: source.about.experiment)
    if not data and len(experiments) > 1:
        names = listed([cut(each, 60) for each in sorted(experiments)])
        return f"they are of different experiments, {names}"
    if not name.endswith("loss"):
        return None
    kinds = _known(runs, lambda s: s.recorded.about.get("kind"))
    if len(kinds) > 1 or len({_measured(source, part) for source in runs.values()}) > 1:
        return "they report different metrics, so that their losses need not be the same function"
    return None


def unsure(runs: dict[str, Source], metric: str) -> list[str]:
    """Returns the runs of which it is not known on what examples a metric was measured."""
    part = metric.partition("/")[0]
    key = "data" if part == "train" else f"data {part}"
    return [name for name, source in runs.items() if identity(source).get(key) is None]


def best_setting(source: Source) -> str:
    """Returns how the numbers of a sweep came to be."""
    ranking = settings(source)
    count = ranking[0].runs - ranking[0].diverged
    mean = f"the mean of {count} networks" if count > 1 else "one network"
    return (
        f"{mean} with {setting_words(ranking[0].values)}, the best of {len(ranking)} settings by "
        f"their {display_name(ranked(source) or '')}"
    )


def _known(runs: dict[str, Source], of: Callable[[Source], Any]) -> set[str]:
    return {str(value) for value in map(of, runs.values()) if value is not None}


def _measured(source: Source, part: str) -> frozenset[str]:
    """Returns the metrics of a part of the data, which tell its loss from another one."""
    names = (name.partition("/") for name in source.last)
    return frozenset(name for at, _, name in names if at == part and name != "learning_rate")


def examples_of(part: str) -> str:
    """Returns which examples a part of the data is."""
    words = {"train": "the training examples", "test": "the held-out examples"}
    return words.get(part, f"the {spaced(part)} examples")
