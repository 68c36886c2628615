"""Selection: a pure function from population to population, between two stretches of training.

    fit(..., key=keys(range(64)), hparams=..., select=successive_halving("test/accuracy", steps))

After each evaluation it is called with a key and the trials of the population, whose arrays have a
leading axis, and returns trials of the same form: some of them dropped, or with the state of
another. Trials come in any order, and some slots are empty: what is decided should depend on their
`metrics`, `status` and `member`, not on their place.
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
    """Stops the worst members again and again, until one is left for the last stretch.

    Of `n` members there are `r = ceil(log(n) / log(1 / keep))` cuts, at the shares `keep**r`, ...,
    `keep` of the steps; after cut `i` the best `ceil(n * keep**i)` survive. All take
    `(1 + r * (1 - keep)) / n` of the steps of the full sweep: of 64 members, halved, a sixteenth.
    A cut happens at the first evaluation after it: evaluate at least that often.

    Args:
      metric: the metric that decides, `"test/accuracy"`.
      steps: how long the last member trains.
      keep: the share of the members that survives.
      lower: whether lower is better; by default as the metric itself says.

    Source: Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter
    Optimization, AISTATS 2016, algorithm 1, https://arxiv.org/abs/1502.07943.
    """
    positive_integer("successive_halving", "steps", steps)
    number("successive_halving", "keep", keep, low=0.0, high=1.0, open_low=True)
    per_cut = -math.log(keep)

    def select(key, trials):
        running = trials.status == RUNNING
        members = jnp.sum(trials.status != EMPTY)
        # What is whole in exact numbers must not be rounded up, or down, by an error of rounding.
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
    """Replaces the worst members by copies of the best ones with other hyper-parameters.

    At each evaluation the worst `share` of the members, and all that have diverged, each take the
    state of one of the best `share`, drawn at random (exploit), and multiply each hyper-parameter
    to explore by one of two factors, drawn too (explore). So training finds a schedule.
    What they took and from whom is reported: `select/parent`, `select/learning_rate`.

    Args:
      metric: the metric that decides, `"test/accuracy"`.
      explore: the hyper-parameters to change, with the least and the greatest value of each.
      share: how many are replaced each time, at most a half.
      factors: what a hyper-parameter is multiplied by.
      lower: whether lower is better; by default as the metric itself says.

    Raises:
      InvalidValue: if a number is out of range, or a hyper-parameter to explore was not given.
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
                expected="a TrainState, as learner(...) makes it",
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
        # Randomness stays a member's own.
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
    """Marks a selection whose direction is open; `train` asks the metric for it."""
    if lower is None:
        setattr(select, OPEN, (metric, cache(again)))
    return select


def ranks(
    trials: Trial, metric: str, among: Bool[Array, "slots"], lower: bool | None = None
) -> Int[Array, "slots"]:
    """Returns the place of each trial in the order of a metric, the best being 0.

    Those not `among` the ranked come last, before them those whose metric is NaN; equal ones come
    in the order of their member numbers.
    """
    choice("select", "metric", metric, trials.metrics)
    value = trials.metrics[metric]
    lower = lower_is_better(metric) if lower is None else lower
    worse = jnp.where(jnp.isnan(value), jnp.inf, value if lower else -value)
    return jnp.argsort(jnp.lexsort((trials.member, worse, ~among)))
