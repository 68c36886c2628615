"""Reports of numbers that were not finite, as `fit` writes them, told in words: what to look at.

A report says which step was the first bad one, which operation of which layer it was, and what it
was given. What helps against it follows from the kind of operation; a smaller step nearly always.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxnn.catalog.contents import read
from jaxnn.catalog.entries import parts
from jaxnn.formatting import aligned, count, wrapped
from jaxnn.storage import json_files
from jaxnn.storage.checkpoints import QUARANTINE

# As many examples as can be taken in at a glance; --json has all.
SHOWN = 10

# What helps against one kind of operation.
_SMALL = (
    "Keep what goes into {operation} away from 0: jnp.log(x + eps), jnp.sqrt(x + eps) or"
    " y / (x + eps), with an eps such as 1e-6. At 0 the gradient of a square root, and of a norm,"
    " is infinite, though its value is not."
)
_LARGE = (
    "Keep what goes into {operation} small, below 88 in float32: subtract the largest first, as"
    " jax.nn.log_softmax and jax.nn.logsumexp do, or bound it with jnp.clip."
)
_GROWN = (
    "Look at why numbers grow: {largest:.4g} went into {operation}, and more than a {dtype} can"
    " hold came out. Steps were too large, or the inputs and labels are: bring those to mean 0 and"
    " deviation 1."
)
_LARGER = ("exp", "exp2", "expm1", "sinh", "cosh")
_ADVICE = {
    **dict.fromkeys(("log", "log1p", "sqrt", "rsqrt", "cbrt", "div", "pow", "integer_pow"), _SMALL),
    **dict.fromkeys(_LARGER, _LARGE),
    "argument": "Look at {where}, which held what is not finite before the step began.",
}


# The largest number of a dtype, to the quarter: what is larger may be too large when multiplied.
_ROOMS = {"float16": 6.5e4**0.25, "float64": 1.7e308**0.25}
_ROOM = 3.3e38**0.25  # float32, and bfloat16
_RANGE = re.compile(r"(\w+)\[[^]]*\] (?:of|from) ([^ ,]+)(?: to ([^ ,]+))?")


def reports(path: Path) -> list[dict[str, Any]]:
    """Returns the reports of a run and of its parts, the newest of each first.

    Each has the `run` that it is of, its `path`, and the `learning_rate` that was asked for, if it
    was one number.

    Raises:
      CorruptFile: if one cannot be read.
      InvalidValue: if a newer jaxnn has written the run.
    """
    found = sorted((path / QUARANTINE).glob("nan-*/report.json"), key=_written, reverse=True)
    rate = (read(path).config or {}).get("learning_rate")
    about = {"run": str(path), "learning_rate": json_files.finite(rate)}
    own = [{**json_files.read(each), **about, "path": str(each)} for each in found]
    return own + [report for part in parts(path) for report in reports(part)]


def text(report: Mapping[str, Any]) -> str:
    """Returns a report as one reads it.

    Raises:
      CorruptFile: if it is none.
    """
    try:
        return "\n\n".join(_blocks(report))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise json_files.CorruptFile(
            "diagnose",
            f"{report['path']} makes no sense",
            got=repr(error),
            expected="a report that fit wrote",
            fix="Give the same command again: the run comes to that step again, and reports it",
        ) from None


def _blocks(report: Mapping[str, Any]) -> Iterator[str]:
    step, before, found = report["step"], report["replayed_from"], report["found"]
    value = "not finite" if report["value"] == "None" else report["value"]
    reported = f"{report['metric']} was {value} at step {report.get('reported', step)}"
    yield f"{report['run']}\n{reported}, which ended the run."
    if step is None:
        yield wrapped(
            "No step of the training is to blame: done again one by one from step"
            f" {before}, all were finite. Look at what is evaluated, its data and its metrics."
        )
        return
    again = " It was the same step before: this is no accident." if report.get("again") else ""
    yield wrapped(
        f"Step {step}, in epoch {report['epoch']:.2f}, was the first that was not finite, as was"
        f" seen when the steps from {before} on were done again one by one.{again}"
    )
    if found is None:
        yield wrapped(
            "Its operations, done one by one, were finite. The compiled program rounds and"
            " overflows in other places: numbers must have been near the largest that there are."
        )
    else:
        yield "The operation with which it began:\n" + aligned(_about(found), "<<", "  ")
    batch = [str(index) for index in report["batch"]]
    if batch:
        more = f" and {len(batch) - SHOWN} more" if len(batch) > SHOWN else ""
        yield wrapped(
            f"In its batch were {count(len(batch), 'example')} of the training data, those with the"
            f" index {', '.join(batch[:SHOWN])}{more}."
        )
    advice = [wrapped(f"- {words}", "  ", "    ") for words in _advice(report, found or {})]
    yield "What to try:\n" + "\n".join(advice)


def _about(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "operation", found["operation"] + (f", gave {found['gave']}" if "gave" in found else "")
    yield "layer", found["layer"] or "none"
    yield "phase", found["phase"] or "none"
    yield "line", found["where"]
    if found["iterations"]:
        yield "turn", ", ".join(map(str, found["iterations"]))
    for name in ("inputs", "outputs"):
        for place, words in enumerate(found[name]):
            yield ("" if place else name), words
    if found.get("then"):
        yield "then", f"{found['then']} made NaN of it"


def _advice(report: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    dtype, largest = _largest(found.get("inputs", ()))
    grown = found.get("gave") in ("inf", "-inf") and largest > _ROOMS.get(dtype, _ROOM)
    if grown and found["operation"] not in ("argument", *_LARGER):
        yield _GROWN.format(operation=found["operation"], dtype=dtype, largest=largest)
    elif found.get("operation") in _ADVICE:
        yield _ADVICE[found["operation"]].format(**found)
    rate, kept = report["learning_rate"], report["checkpoint"]
    lower = "Lower the learning rate"
    if rate is not None:
        lower += f", which was {rate:g}: the same command with --learning-rate {rate / 10:g}"
        # Right before the bad step, its loss and gradient are what they are at any rate.
        if kept is None or (kept >= report["step"] - 1 and found.get("phase") != "update"):
            lower += ", in a directory of its own (--out), from the beginning"
        else:
            lower += f" --allow-change learning_rate goes on from step {kept}, the last good one"
    yield lower + "."
    yield "Clip the gradients: optax.chain(optax.clip_by_global_norm(1.0), optimizer)."
    yield 'Leave such steps out: fit(..., not_finite="skip").'


def _largest(inputs: Iterable[str]) -> tuple[str, float]:
    """Returns the size of the largest of some inputs, as `finding` tells them, and its dtype."""
    told = [match for match in map(_RANGE.match, inputs) if match]
    sizes = [(max(abs(float(x)) for x in m.groups()[1:] if x), m[1]) for m in told]
    size, dtype = max(sizes, default=(0.0, ""))
    return dtype, size


def _written(path: Path) -> float:
    return path.stat().st_mtime
