"""Formats the reports that `fit` writes about losses that are not finite, with advice.

A report contains the first bad step, the operation, its layer and its inputs. The advice depends on
the operation; a lower learning rate almost always helps.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxnn.catalog.contents import read
from jaxnn.catalog.entries import parts
from jaxnn.diagnosis.cause import ArraySummary
from jaxnn.formatting import aligned, count, wrapped
from jaxnn.storage import json_files
from jaxnn.storage.checkpoints import QUARANTINE

# Maximum number of examples to list; --json has all.
SHOWN = 10

# Advice for each kind of operation.
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
    "argument": "Look at {where}, which was not finite before the step began.",
}
# The fourth root of the largest number of each dtype; products of larger numbers may overflow. The
# value of float32 also applies to bfloat16.
_OVERFLOWS = {"float16": 6.5e4**0.25, "float64": 1.7e308**0.25}


def reports(path: Path) -> list[dict[str, Any]]:
    """Returns the reports of a run and its parts, the newest of each first.

    Each report also has the `run`, its `path`, and the `learning_rate` of the run if it is a single
    number.

    Raises:
      CorruptFile: if a report cannot be read.
      InvalidValue: if the run was written by a newer jaxnn.
    """
    written = (path / QUARANTINE).glob("nan-*/report.json")
    files = sorted(written, key=lambda file: file.stat().st_mtime, reverse=True)
    rate = (read(path).config or {}).get("learning_rate")
    about = {"run": str(path), "learning_rate": json_files.finite(rate)}
    own = [{**json_files.read(each), **about, "path": str(each)} for each in files]
    return own + [report for part in parts(path) for report in reports(part)]


def text(report: Mapping[str, Any]) -> str:
    """Returns a report as text.

    Raises:
      CorruptFile: if the report has an invalid form.
    """
    try:
        return "\n\n".join(_blocks(report))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise json_files.CorruptFile(
            "diagnose",
            f"{report['path']} cannot be read",
            got=repr(error),
            expected="a report that fit wrote",
            fix="Give the same command again: the run repeats that step, and reports it",
        ) from None


def _blocks(report: Mapping[str, Any]) -> Iterator[str]:
    step, before, finding = report["step"], report["replayed_from"], report["finding"]
    reported = f"was {report['value'] or 'not finite'} at step {report.get('reported', step)}"
    yield f"{report['run']}\n{report['metric']} {reported}, which ended the run."
    if step is None:
        yield wrapped(
            "No step of the training is to blame: repeated one by one from step"
            f" {before}, all were finite. Look at the evaluation, its data and its metrics."
        )
        return
    again = " It was the same step before: this is no accident." if report.get("again") else ""
    epoch = report["epoch"]  # None for a learner that generates its own data
    place = "" if epoch is None else f", in epoch {epoch:.2f},"
    yield wrapped(
        f"Step {step}{place} was the first that was not finite when the"
        f" steps from {before} on were repeated one by one.{again}"
    )
    if not report.get("repeated", True):
        yield wrapped("Its operations were not repeated: its arrays do not fit on one device.")
    elif finding is None:
        yield wrapped(
            "Its operations, one by one, were finite. The compiled program rounds and overflows in"
            " other places: numbers must have been near the largest of their dtype."
        )
    else:
        yield "The operation that caused it:\n" + aligned(_about(finding), "<<", "  ")
    batch = [str(index) for index in report["batch"]]
    if batch:
        more = f" and {len(batch) - SHOWN} more" if len(batch) > SHOWN else ""
        yield wrapped(
            f"In its batch were {count(len(batch), 'example')} of the training data, those with the"
            f" index {', '.join(batch[:SHOWN])}{more}."
        )
    advice = [wrapped(f"- {words}", "  ", "    ") for words in _advice(report, finding or {})]
    yield "What to try:\n" + "\n".join(advice)


def _about(finding: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    gave = f", gave {finding['gave']}" if "gave" in finding else ""
    yield "operation", finding["operation"] + gave
    yield "layer", finding["layer"] or "none"
    yield "phase", finding["phase"] or "none"
    yield "line", finding["where"]
    if finding["iterations"]:
        yield "iteration", ", ".join(map(str, finding["iterations"]))
    for name in ("inputs", "outputs"):
        for place, array in enumerate(finding[name]):
            array = ArraySummary(**array | {"shape": tuple(array["shape"])})
            yield "" if place else name, str(array)
    if finding.get("then"):
        yield "then", f"{finding['then']} turned it into NaN"


def _advice(report: Mapping[str, Any], finding: Mapping[str, Any]) -> Iterator[str]:
    operation = finding.get("operation")
    sizes = [
        (max(abs(each["low"]), abs(each["high"])), each["dtype"])
        for each in finding.get("inputs", ())
        if each["low"] is not None
    ]
    largest, dtype = max(sizes, default=(0.0, ""))
    grown = finding.get("gave") in ("inf", "-inf") and largest > _OVERFLOWS.get(dtype, 3.3e38**0.25)
    if grown and operation not in ("argument", *_LARGER):
        yield _GROWN.format(operation=operation, dtype=dtype, largest=largest)
    elif operation in _ADVICE:
        yield _ADVICE[operation].format(**finding)
    rate, saved = report["learning_rate"], report["checkpoint"]
    lower = "Lower the learning rate"
    if rate is not None:
        lower += f", which was {rate:g}: the same command with --learning-rate {rate / 10:g}"
        # Directly before the bad step, the learning rate no longer affects its loss and gradient.
        if saved is None or (saved >= report["step"] - 1 and finding.get("phase") != "update"):
            lower += ", in a directory of its own (--out), from the beginning"
        else:
            lower += f" --allow-change learning_rate resumes from step {saved}, the last good one"
    yield lower + "."
    yield "Clip the gradients: optax.chain(optax.clip_by_global_norm(1.0), optimizer)."
    yield 'Skip such steps: fit(..., not_finite="skip").'
