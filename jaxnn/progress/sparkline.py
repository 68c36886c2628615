"""A row of numbers as a line of text: how the loss went, in the width of a word.

>>> sparkline([4.0, 3.0, 2.0, 1.0])
'█▆▃▁'
>>> sparkline([1000.0, 100.0, 10.0, 1.0, float("nan")])
'█▆▃▁✗'
"""

import math
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
LOST = "✗"  # what is not finite
# What spans more than this is drawn by its logarithm, or all but its beginning would be flat.
SPAN = 20.0


def sparkline(values: Sequence[float | None], width: int = 40) -> str:
    """Returns a letter for each of the last `width` values: higher is more.

    The lowest that is shown is the lowest block and the highest the highest; of positive values of
    which one is more than 20 times another, the logarithms are drawn. `None` and what is not finite
    is a cross.
    """
    shown = [math.nan if each is None else float(each) for each in values[-max(width, 0) or None :]]
    finite = [each for each in shown if math.isfinite(each)]
    if width <= 0 or not shown:
        return ""
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    if low > 0 and high / low > SPAN:
        shown = [math.log(each) if math.isfinite(each) else each for each in shown]
        low, high = math.log(low), math.log(high)
    return "".join(_block(each, low, high) for each in shown)


def _block(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return LOST
    if high <= low:
        return BLOCKS[0]
    # Halved first, since the difference of two floats may be too large for one.
    share = (value / 2 - low / 2) / (high / 2 - low / 2)
    return BLOCKS[min(round(share * (len(BLOCKS) - 1)), len(BLOCKS) - 1)]
