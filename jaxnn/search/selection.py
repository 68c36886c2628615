"""Selection: a pure function `(key, trials) -> trials` that is applied to a population in training.

    fit(..., key=keys(range(64)), hparams=..., select=successive_halving("test/accuracy", steps))

It is called after each evaluation with a key and the stacked trials of the population. It returns
trials with the same structure and shapes, in which some are dropped or have copied the state of
another. Trials come in any order, and some slots are empty: a selection should depend on their
`metrics`, `status` and `member`, not on their position.
"""

import math
from collections.abc import Mapping
from functools import cache, partial

import jax
import jax.numpy as jnp

from jaxnn.checks import InvalidType, InvalidValue, choice, number, positive, positive_integer
from jaxnn.driver.members import OPEN
from jaxnn.driver.trial import Select, Trial
from jaxnn.loop._population import where
from jaxnn.loop.statuses import DIVERGED, DROPPED, EMPTY, RUNNING
from jaxnn.metrics import lower_is_better
from jaxnn.scale.layout import rows
from jaxnn.typing import Array, Bool, Callable, Int


def successive_halving(
    metric: str, steps: int, *, keep: float = 0.5, lower: bool | None = None
) -> Select:
    """Returns a selection that repeatedly drops the worst members, until one is left.

    With `n` members there are `r = ceil(log(n) / log(1 / keep))` cuts, at the fractions `keep**r`,
    ..., `keep` of the steps. After cut `i`, the best `ceil(n * keep**i)` members survive. In total
    this takes `(1 + r * (1 - keep)) / n` of the steps of the full sweep: for 64 members and
    `keep=0.5`, a sixteenth. A cut happens at the first evaluation at or after its step, so evaluate
    at least that often.

    Args:
      metric: the metric to rank members by, such as `"test/accuracy"`.
      steps: the number of steps that the last member trains.
      keep: the fraction of members that survives each cut.
      lower: whether lower values are better. The default is the direction of the metric.

    Source: Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter
    Optimization, AISTATS 2016, algorithm 1, https://arxiv.org/abs/1502.07943.
    """
    positive_integer("successive_halving", "steps", steps)
    number("successive_halving", "keep", keep, low=0.0, high=1.0, open_low=True)
    per_cut = -math.log(keep)

    def select(key, trials):
        running = trials.status == RUNNING
        members = jnp.sum(trials.status != EMPTY)
        # Rounding errors must not move a value that is exactly an integer to the next one.
        small = 1e-4
        cuts = jnp.ceil(jnp.log(members) / per_cut - small)
        step = jnp.max(jnp.where(running, trials.state.step, 1))
        done = jnp.floor(cuts + jnp.log(step / steps) / per_cut + small) + 1
        left = jnp.ceil(members * keep ** jnp.clip(done, 0, cuts) - small)
        dropped = running & (ranks(trials, metric, running, lower) >= left)
        return trials._replace(status=jnp.where(dropped, jnp.int8(DROPPED), trials.status))

    return _open(select, metric, lower, partial(successive_halving, metric, steps, keep=keep))


def population_based_training(
    metric: str,
    explore: Mapping[str, tuple[float, float]],
    *,
    share: float = 0.25,
    factors: tuple[float, float] = (0.8, 1.25),
    lower: bool | None = None,
) -> Select:
    """Returns a selection that replaces the worst members by perturbed copies of the best.

    After each evaluation, the worst `share` of the members and all diverged members each copy the
    state of a random member among the best `share` (exploit). They then multiply each
    hyper-parameter in `explore` by one of the two factors, chosen at random (explore). Training
    thus discovers a schedule. The metrics `select/parent` and `select/learning_rate` report the
    copied member and the new value.

    Args:
      metric: the metric to rank members by, such as `"test/accuracy"`.
      explore: the hyper-parameters to perturb, each with its lower and upper bound.
      share: the fraction of members that is replaced each time, at most 0.5.
      factors: the factors that a hyper-parameter is multiplied by.
      lower: whether lower values are better. The default is the direction of the metric.

    Raises:
      InvalidValue: if a number is out of range, or a hyper-parameter in `explore` is unknown.
      InvalidType: if the learner's state is not a `TrainState`.

    Source: Jaderberg et al., Population Based Training of Neural Networks, 2017, section 4,
    https://arxiv.org/abs/1711.09846: truncation selection and perturbation.
    """
    asker = "population_based_training"
    number(asker, "share", share, low=0.0, high=0.5 + 1e-9, open_low=True)
    for factor in factors:
        positive(asker, "factors", factor)
    for name, (least, most) in explore.items():
        number(asker, f"explore[{name!r}]", least, high=most)
    if not explore:
        raise InvalidValue(
            asker,
            "there is nothing to explore",
            got="explore={}",
            expected="at least one hyper-parameter with its bounds",
            fix="Pass explore={'learning_rate': (1e-5, 1.0)}",
        )

    def select(key, trials):
        given = getattr(trials.state, "hparams", None)
        if given is None or not hasattr(trials.state, "key"):
            raise InvalidType(
                asker,
                "the learner's state has no hyper-parameters",
                got=f"a {type(trials.state).__name__}",
                expected="a TrainState, as in learner(...)",
                fix="Write a selection of your own: (key, trials) -> trials",
            )
        for name in explore:
            choice(asker, "the hyper-parameter to explore", name, given)
        running, diverged = trials.status == RUNNING, trials.status == DIVERGED
        rank, members = ranks(trials, metric, running, lower), jnp.sum(running)
        some = jnp.maximum(1, (share * members).astype(jnp.int32))
        worst = running & (rank >= members - some) & (members > 1)
        loses = worst | (diverged & (members > 0))
        draws = jax.vmap(jax.random.fold_in, (None, 0))(key, trials.member)
        better = jax.vmap(lambda key: jax.random.randint(key, (), 0, some))(draws)
        source = jnp.argsort(rank)[better]
        state = trials.state
        copied = rows(state, source)
        hparams = dict(copied.hparams)
        for place, (name, bounds) in enumerate(explore.items(), 1):
            keys = jax.vmap(jax.random.fold_in, (0, None))(draws, place)
            up = jax.vmap(jax.random.bernoulli)(keys)
            hparams[name] = jnp.clip(hparams[name] * jnp.where(up, *factors[::-1]), *bounds)
        # Each member keeps its own key.
        copied = copied._replace(hparams=hparams, key=state.key)
        return trials._replace(
            state=jax.vmap(where)(loses, copied, state),
            metrics=jax.vmap(where)(loses, rows(trials.metrics, source), trials.metrics),
            status=jnp.where(loses, jnp.int8(RUNNING), trials.status),
            parent=jnp.where(loses, trials.member[source], trials.member),
        )

    again = partial(population_based_training, metric, explore, share=share, factors=factors)
    return _open(select, metric, lower, again)


def _open(select: Select, metric: str, lower: bool | None, again: Callable[..., Select]) -> Select:
    """Marks a selection without a direction; `train` then uses the direction of the metric."""
    if lower is None:
        setattr(select, OPEN, (metric, cache(again)))
    return select


def ranks(
    trials: Trial, metric: str, among: Bool[Array, "slots"], lower: bool | None = None
) -> Int[Array, "slots"]:
    """Returns the rank of each trial by a metric; the best has rank 0.

    Trials that are not in `among` come last, preceded by those whose metric is NaN. Ties are broken
    by member number.
    """
    choice("select", "metric", metric, trials.metrics)
    value = trials.metrics[metric]
    lower = lower_is_better(metric) if lower is None else lower
    worse = jnp.where(jnp.isnan(value), jnp.inf, value if lower else -value)
    return jnp.argsort(jnp.lexsort((trials.member, worse, ~among)))
