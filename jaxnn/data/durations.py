"""Durations of training and intervals of reports, in steps, epochs, examples or per cent.

>>> import numpy as np
>>> from jaxnn.data import resident
>>> data = resident({"inputs": np.zeros((1000, 3))}, batch_size=50)
>>> steps_of("10 epochs", data)
200
>>> steps_of("5%", data, total=200)
10
>>> steps_of(300, data)
300
"""

import math
import re
from dataclasses import dataclass

import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.data.protocol import Data

Duration = int | np.integer | str
"""A number of steps, or a string: `"300 steps"`, `"10 epochs"`, `"50000 examples"`, or `"5%"` of
the run."""


@dataclass(frozen=True)
class Every:
    """The intervals of reports and evaluations; `every="1 epoch"` means `Every("1 epoch")`.

    Attributes:
      report: the interval between reports. The default is one epoch, or the whole run if that is
        shorter. The last step is always reported.
      evaluate: the interval between evaluations. Evaluation happens at the first report after each
        interval, and at the last report. The default is every report.
    """

    report: Duration | None = None
    evaluate: Duration | None = None


_NUMBER = r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?|[0-9]+\.)"
_FORM = re.compile(rf"\s*{_NUMBER}\s*(steps?|epochs?|examples?|%)\s*", re.I)


def steps_of(
    duration: Duration, data: Data, *, total: int | None = None, name: str = "duration"
) -> int:
    """Converts a duration to a number of training steps, rounded up, at least 1.

    Args:
      duration: a `Duration`.
      data: the training data, which define the lengths of an epoch and of a step.
      total: the number of steps of the whole run, for percentages.
      name: the name of the duration in error messages.

    Raises:
      InvalidValue: if the duration is not positive, or its unit is unknown.
    """
    if isinstance(duration, str):
        form = _FORM.fullmatch(re.sub("[_,](?=[0-9]{3})", "", duration))
        number, unit = (float(form[1]), form[2].lower().rstrip("s")) if form else (0.0, "")
        if unit in ("epoch", "example") and not data.batch_size:
            raise InvalidValue(
                "steps_of",
                f"{name} is in {unit}s, but the learner makes its own data",
                got=f"{name}={duration!r} and data=None",
                expected="a number of steps" + (" or a share of the run, '5%'" if total else ""),
                fix=f"Pass {name}=1000",
            )
        size = data.batch_size or math.inf
        per_unit = {
            "step": 1.0,
            "epoch": data.num_examples / size,
            "example": 1.0 / size,
            "%": (total or 0) / 100.0,
        }.get(unit, 0.0)
        # Rounded first: 10 epochs of 49.9 steps are 499 steps, even if 10 * 49.9 exceeds 499.
        steps = math.ceil(round(number * per_unit, 6))
    elif isinstance(duration, int | np.integer) and not isinstance(duration, bool):
        steps = int(duration)
    else:
        steps = 0
    if steps < 1:
        raise InvalidValue(
            "steps_of",
            f"{name} is not a positive duration",
            got=f"{name}={duration!r}",
            expected="a number of steps, or '300 steps', '10 epochs', '50000 examples'"
            + (" or '5%'" if total else " (a share, '5%', only for parts of a run)"),
            fix=f"Pass, say, {name}='10 epochs'",
        )
    return steps
