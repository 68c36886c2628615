"""`train`: returns an iterator over a training run, so that a plain `for` loop needs no callbacks.

for progress in train(learner, data, steps="10 epochs", key=key, every="1 epoch"):
    print(progress.step, progress.metrics["train/loss"])

>>> import jax, optax
>>> from jaxnn.data import resident
>>> from jaxnn.learning import learner
>>> from jaxnn.layers import linear
>>> from jaxnn.objectives import regression
>>> data = resident({"inputs": [[1.0], [2.0]], "labels": [[3.0], [5.0]]}, batch_size=2)
>>> line = learner(linear(1), regression(), optax.sgd(0.1))
>>> for progress in train(line, data, steps=200, key=jax.random.key(0), every=100):
...     print(progress.step, bool(progress.metrics["train/loss"] < 0.1))
100 True
200 True
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxnn import metrics as measures
from jaxnn.checks import Invalid, InvalidType, InvalidValue, kind
from jaxnn.data._no_data import NoData, as_data
from jaxnn.data.durations import Duration, Every, steps_of
from jaxnn.data.protocol import Data
from jaxnn.driver.chunks import Training
from jaxnn.driver.feeding import traced, traced_in_order
from jaxnn.driver.members import (
    Execution,
    bounds,
    check_room,
    check_selection,
    counted,
    directed,
    laid_out,
    watched,
)
from jaxnn.driver.meshes import on_mesh
from jaxnn.driver.trial import Select, Watch, prefix_names
from jaxnn.learning._learner import Learner
from jaxnn.loop._evaluate import evaluated
from jaxnn.loop._run import best_form, initial, trace_step
from jaxnn.loop.unchanged import unchanged
from jaxnn.metrics.metric import check_metrics
from jaxnn.scale.devices import devices_of
from jaxnn.scale.placement import alone
from jaxnn.streams._stream import Stream
from jaxnn.streams.ranges import Ranges
from jaxnn.streams.source import place_of
from jaxnn.typing import Any, Array, Hparams, Key


def train(
    learner: Learner,
    data: Data | None,
    *,
    steps: Duration,
    key: Key[Array, "*members"],
    hparams: Hparams | None = None,
    every: Duration | Every | None = None,
    evaluate: Data | Mapping[str, Data | None] | None = None,
    watch: Watch | str | None = None,
    select: Select | None = None,
    execution: Execution | None = None,
    mesh: Mesh | None = None,
    rules: Any = None,
    start: Any = None,
) -> Training:
    """Returns a `Training`: an iterator that trains and yields a `Progress` at every report.

    If `key` or a hyper-parameter is an array `[members]`, it trains a population: one run per
    member, all in one compiled program. Each metric is then an array `[members]`. The state of a
    member that has stopped does not change while the others train.

    The call validates all arguments by tracing the program, without compiling it. Training starts
    with the iteration.

    Args:
      learner: the learner to train.
      data: the training data. `None` for a learner that generates its own, as in reinforcement
        learning: its batches are `{}`.
      steps: the length of the run, a `Duration`, such as `1000` or `"10 epochs"`.
      key: the source of all randomness: initialisation, data order and dropout. For a population,
        an array of keys.
      hparams: the hyper-parameters by name, each a number or an array `[members]`.
      every: the interval between reports, a `Duration`, or an `Every` to evaluate less often. The
        default is one epoch, or the whole run if that is shorter; without data, a tenth of it.
      evaluate: the evaluation data, one dataset or a dict of them. The name of a single dataset is
        `test`. If `data` is `None`, a value `None` evaluates on data that the learner generates.
      watch: the metric that determines the best state. A `Watch` also sets the direction, if the
        metric has none, and the patience for early stopping.
      select: a pure function `(key, trials) -> trials` that is applied to a population after each
        evaluation, such as `successive_halving` or `population_based_training`.
      execution: how steps are compiled, and how members are assigned to devices.
      mesh: the devices that share the run, from `jaxnn.scale.mesh`. The default is all
        accelerators, if there are several and their number divides the batch size.
      rules: the sharding rules of the parameters, such as `jaxnn.scale.fsdp`. The default,
        `replicated`, copies them to every device. Without `mesh`, rules imply a mesh of all
        devices.
      start: initial values `(params, state)`, such as those of a pretrained model. They replace the
        initialised arrays of the same names. They are arguments of the program, not constants, so
        they may be large.

    Raises:
      Invalid: if an argument is invalid; raised before anything compiles.
    """
    evaluations = dict(evaluate) if isinstance(evaluate, Mapping) else {"test": evaluate}
    own = data is None and evaluate is not None
    data = cast(Data, as_data(data))
    evaluations = {n: as_data(part) for n, part in evaluations.items() if own or part is not None}
    _check_kinds(learner, data, evaluations)
    members, given = counted(key, hparams or {})
    learner = on_mesh(learner, data, members, mesh, rules)
    if data.batch_size > data.num_examples:
        raise InvalidValue(
            "train",
            "a batch is larger than the data",
            got=f"batch_size={data.batch_size} and {data.num_examples} examples",
            expected=f"batch_size of at most {data.num_examples}",
            fix=f"Pass batch_size={data.num_examples}",
        )
    total = steps_of(steps, data, name="steps")
    times = every if isinstance(every, Every) else Every(every)
    usual = "10%" if isinstance(data, NoData) else "1 epoch"
    every = usual if times.report is None else times.report
    every = steps_of(every, data, total=total, name="every")
    between = every if times.evaluate is None else times.evaluate
    between = steps_of(between, data, total=total, name="Every(evaluate)")
    extremes = bounds(given)
    first = jax.ShapeDtypeStruct((), key.dtype), jax.tree.map(np.float32, extremes[0])
    batches, ranges = traced(data), dict[str, Ranges]()

    def check(name, part, batch):
        def check_arrays(arrays):
            for hparams in extremes:
                learner.check(hparams, arrays, state, batch)

        check_arrays(part.examples)
        if isinstance(part, Stream):
            ranges[name] = Ranges(check_arrays, part.examples, partial(place_of, part.source))

    with _needs_no_data(data):
        state = jax.eval_shape(partial(initial, learner), *first, batches, start)
        check("train", data, jax.eval_shape(lambda data: data.batch(jnp.int32(0)), batches))
        with alone(learner):  # the identity of a run does not depend on its mesh
            program, result = trace_step(learner, state, batches)
    after, metrics = _pair(result)
    _check_carry(state, after)
    _check_metrics("step", metrics)
    reported, shapes = prefix_names("train", metrics), {}
    for name, part in evaluations.items():
        with _about(name):
            batches = traced_in_order(part)
            batch = jax.eval_shape(lambda data: data.in_order(0), batches)
            check(name, part, batch)
            evaluated_metrics = jax.eval_shape(partial(evaluated, learner), state, batches, 0)
            _check_metrics("evaluate", evaluated_metrics)
            shapes[name] = evaluated_metrics
        reported |= prefix_names(name, evaluated_metrics)
    # Lower is better for a loss, if its metric says nothing.
    directions: dict[str, Any] = {
        name: metric.better or ("lower" if name.endswith("/loss") else None)
        for name, metric in reported.items()
    }
    execution = execution or Execution()
    placement = learner.placement
    devices = placement.devices if placement else execution.devices or devices_of(data)
    form = execution.form or best_form(program, devices[0].platform)
    training = Training(
        learner=learner,
        data=data,
        evaluations=evaluations,
        key=key,
        hparams=given,
        steps=total,
        every=every,
        evaluate_every=between,
        form=form,
        program=program,
        metrics=metrics,
        names=list(reported),
        directions=directions,
        watch=watched(watch, directions),
        select=directed(select, directions),
        layout=laid_out(members, execution, form, learner.placement),
        width=execution.width,
        evaluated=shapes,
        origin=start,
        # A selection may copy these arrays from another member.
        fixed=unchanged(program, state) if select is None else (),
        ranges=ranges,
    )
    if members is not None:
        check_room(training)
    if select is not None:
        check_selection(training)
    return training


def _check_kinds(learner: Any, data: Any, evaluations: dict[str, Any]) -> None:
    kind("train", "learner", learner, Learner, fix="Pass learner(network, objective, optimizer)")
    fix = "Pass resident({'inputs': inputs, 'labels': labels}, batch_size=64)"
    fix += ", or for data that do not fit stream(source, batch_size=64)"
    kind("train", "data", data, Data, fix=fix)
    for name, part in evaluations.items():
        kind("train", f"evaluate[{name!r}]", part, Data, fix=fix)
    taken = {"train": "training", "select": "selection", "best": "evaluation"}
    for name, why in taken.items():
        if name in evaluations:
            raise InvalidValue(
                "train",
                f"the name {name} is reserved for the metrics of {why}",
                got=f"evaluate with the names {', '.join(evaluations)}",
                expected="other names",
                fix=f"Write evaluate={{'{why}': data, ...}}",
            )


@contextmanager
def _about(name: str) -> Iterator[None]:
    """Adds the name of the evaluation data to an error message."""
    try:
        yield
    except Invalid as error:
        raise type(error)(f"in the data {name!r}, {error}") from error


@contextmanager
def _needs_no_data(data: Data) -> Iterator[None]:
    """Explains why a learner that reads its batches cannot train without data."""
    try:
        yield
    except KeyError as error:
        if not isinstance(data, NoData):
            raise
        raise InvalidType(
            "train",
            "the learner reads its data, and there are none",
            got=f"data=None, and a learner that reads batch[{error}]",
            expected="data; or a learner that makes its own, and reads nothing of the batch",
            fix="Pass resident({'inputs': inputs, 'labels': labels}, batch_size=64)",
        ) from error


def _check_metrics(function: str, metrics: Any) -> None:
    check_metrics("train", f"the results of the learner's {function}", metrics)
    if not metrics:
        raise InvalidType(
            "train",
            f"the learner's {function} returns no metric",
            got="an empty dict",
            expected="at least one metric",
            fix="Return {'loss': jaxnn.metrics.mean(values, weights)}",
        )
    values = jax.eval_shape(measures.values, metrics)
    for name, metric in metrics.items():
        if "<" in getattr(metric.finish, "__qualname__", ""):
            raise InvalidType(
                "train",
                f"the metric {name!r} has a `finish` function that is new at every call",
                got=f"finish={metric.finish.__qualname__}",
                expected="a function at the top level of a module",
                fix="Move it there: def finish(sums): ...",
            )
        value = values[name]
        if getattr(value, "shape", None) != ():
            raise InvalidType(
                "train",
                f"the metric {name!r} is not one number",
                got=f"a value of shape {value.shape}"
                if hasattr(value, "shape")
                else f"a {type(value).__name__}",
                expected="a scalar",
                fix="Report one metric for each number, each with a name of its own",
            )


def _pair(result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise InvalidType(
            "train",
            "the learner's step must return two values",
            got="an array" if hasattr(result, "shape") else f"a {type(result).__name__}",
            expected="a pair (state, metrics)",
            fix="Write `return state, metrics` in update",
        )
    return result[0], result[1]


def _check_carry(before: Any, after: Any) -> None:
    """Raises if a step changes the structure, shapes or dtypes of the state."""
    wanted, got = (
        {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}
        for leaves in map(jax.tree.leaves_with_path, (before, after))
    )
    for path in sorted(wanted.keys() | got.keys()):
        if wanted.get(path) != got.get(path):
            raise InvalidType(
                "train",
                f"a step changes the form of the state at state{path}",
                got=f"{got.get(path, 'nothing')} after the step",
                expected=f"{wanted.get(path, 'nothing')}, as before it",
                fix="Return a state of the same structure, shapes and dtypes from step"
                " (and from the network's apply)",
            )
