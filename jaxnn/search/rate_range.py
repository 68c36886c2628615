"""The learning-rate range test: a short run at each of many rates, all in one program."""

from typing import NamedTuple

import numpy as np

from jaxnn.data.durations import Duration, steps_of
from jaxnn.data.protocol import Data
from jaxnn.learning._learner import Learner
from jaxnn.runs._fit import fit
from jaxnn.search.ranges import bounds
from jaxnn.typing import Array, Float, Hparams, Key


class RateRange(NamedTuple):
    """The result of a range test.

    Attributes:
      rates: the learning rates in increasing order.
      losses: the training loss at the end of each run; infinite if it diverged.
      best: the rate with the lowest loss, after a median filter over neighbouring rates. It is
        about the highest useful rate: long runs need a lower one, a half or a tenth of it.
    """

    rates: Float[np.ndarray, "count"]
    losses: Float[np.ndarray, "count"]
    best: float


def learning_rate_range(
    learner: Learner,
    data: Data,
    *,
    key: Key[Array, ""],
    hparams: Hparams | None = None,
    low: float = 1e-6,
    high: float = 10.0,
    count: int = 32,
    steps: Duration = 100,
    name: str = "learning_rate",
) -> RateRange:
    """Trains briefly at rates from `low` to `high`, evenly spaced on a log scale.

    All runs use the same initial weights and the same data order, so that they differ only in the
    learning rate. The reported loss is the mean over the last quarter of the steps.

    Args:
      learner: the learner, which reads the rate from `hparams[name]`.
      data: the training data.
      key: the source of all randomness.
      hparams: the other hyper-parameters.
      low: the lowest rate, positive.
      high: the highest rate.
      count: the number of rates.
      steps: the length of each run.
      name: the name of the learning rate among the hyper-parameters.

    Raises:
      Invalid: if an argument is invalid; raised before anything compiles.

    Source: after Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017, section
    3.3, https://arxiv.org/abs/1506.01186, which raises the rate within a single run.
    """
    low, high, count = bounds("learning_rate_range", low, high, count, log=True)
    rates = np.geomspace(low, high, count, dtype=np.float32)
    total = steps_of(steps, data, name="steps")
    begin = max(1, total - -(-total // 4))
    hparams = {**(hparams or {}), name: rates}
    run = fit(learner, data, steps=total, every=begin, key=key, hparams=hparams, quiet=True)
    losses = np.array(run.history[-1]["train/loss"])
    losses = np.where(np.isfinite(losses), losses, np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(losses, 1, mode="edge"), 3)
    return RateRange(rates, losses, float(rates[np.argmin(np.median(windows, 1))]))
