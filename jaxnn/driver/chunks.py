"""The training loop on the host, which dispatches chunks of steps to the devices.

A chunk takes half a second to a second. One chunk is always dispatched ahead, so that the device
never waits for the host. Reports, evaluations and the end happen at fixed steps, regardless of the
chunks' boundaries. For a population, the same program is dispatched to each device. When members
stop, the others are redistributed, so that no device is idle.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from jaxnn import display
from jaxnn import metrics as measures
from jaxnn.checks import Invalid
from jaxnn.data._resident import Resident
from jaxnn.data.protocol import Data
from jaxnn.driver.feeding import Streamed, Whole, are_ready, first_batches, sums_of, traced
from jaxnn.driver.placement import Placed, Progress, fitted, laid_out, shapes_on, shared
from jaxnn.driver.selecting import selected
from jaxnn.driver.trial import Trial, Watch, begin, report
from jaxnn.formatting import count
from jaxnn.learning._learner import Learner
from jaxnn.loop._advance import advance, looped, stepped
from jaxnn.loop._run import Form
from jaxnn.loop.statuses import RUNNING
from jaxnn.loop.unchanged import split
from jaxnn.markup import element
from jaxnn.scale import processes
from jaxnn.scale.devices import devices_of
from jaxnn.scale.layout import Layout
from jaxnn.scale.placement import forget_other_meshes
from jaxnn.streams._sample import sample
from jaxnn.streams._stream import Stream
from jaxnn.streams.feed import Meter, Stalled
from jaxnn.streams.ranges import Ranges
from jaxnn.typing import Any, Callable

# Long enough to amortise the start of a program (the first touch of a convnet's memory: 15 ms),
# short enough to respond to a signal at once.
CHUNK_SECONDS = 1.0


@dataclass(frozen=True)
class Training:
    """A validated run that is ready to start, as returned by `train`; nothing is compiled yet.

    Iteration trains from the first step and yields a `Progress` at every report. `start` and
    `chunks` can also resume a run.

    Attributes:
      learner: the learner to train.
      data: the training data; the trial holds the key of their order.
      evaluations: the evaluation data by name.
      key: the source of all randomness; one key, or `[members]` of them.
      hparams: the hyper-parameters in float32, each a scalar or `[members]`.
      steps: the step at which the run ends.
      every: the number of steps between reports.
      evaluate_every: the number of steps between evaluations.
      form: the form of the steps, `"looped"` or `"stepped"`.
      program: the jaxpr of a step.
      metrics: the shapes of the metrics of a step.
      names: the names of all reported metrics.
      directions: whether lower or higher is better for each metric; `None` if unknown.
      watch: the metric that determines the best state, and the patience, if any.
      select: the selection that is applied to members after each evaluation, if any.
      layout: the assignment of members to devices.
      width: the requested number of members that train in parallel on a device.
      origin: the initial parameters and state, if they are given; `None` if the learner initialises
        them.
      fixed: the places of the large leaves of the learner's state that no step changes.
      evaluated: the shapes of the metrics of a batch of each evaluation.
      meter: the time spent on reading data so far.
      ranges: range checks of streamed data, by the name of the data; training data are `train`.
    """

    learner: Learner
    data: Data = field(repr=False)
    evaluations: dict[str, Data] = field(repr=False)
    key: Any = field(repr=False)
    hparams: dict[str, Any]
    steps: int
    every: int
    evaluate_every: int
    form: Form
    program: Any = field(repr=False)
    metrics: Any = field(repr=False)
    names: list[str] = field(default_factory=list)
    directions: dict[str, Any] = field(default_factory=dict)
    watch: Watch | None = None
    select: Callable[[Any, Trial], Trial] | None = None
    layout: Layout = Layout()
    width: int | None = None
    evaluated: dict[str, Any] = field(default_factory=dict, repr=False)
    origin: Any = field(default=None, repr=False)
    fixed: tuple[int, ...] = field(default=(), repr=False)
    meter: Meter = field(default_factory=Meter, repr=False)
    ranges: dict[str, Ranges] = field(default_factory=dict, repr=False)

    @cached_property
    def sample(self) -> Resident:
        """A sample of the training data on the device: all resident data, or part of a stream."""
        return sample(self.data)

    def __iter__(self) -> Iterator[Progress]:
        return (progress for progress in self.chunks(self.start()) if progress.metrics)

    def _repr_html_(self) -> str:
        of = "" if self.layout.members is None else f"of {self.layout.members} networks "
        size = self.data.batch_size
        each = f" of {count(size, 'example')}" if size else ""
        words = f"training {of}for {count(self.steps, 'step')}{each}"
        hparams = jax.tree.map(jnp.asarray, self.hparams)
        return display.block(element("div", words), display.learner(self.learner.parts, hparams))

    def start(
        self, trial: Trial | None = None, step: int = 0, *, consume: bool = False
    ) -> Progress:
        """Returns the initial progress of the run, or the progress of a saved trial.

        Args:
          trial: the saved trial, from `Progress.trial`, on any device or on the host.
          step: the step at which the trial was saved.
          consume: whether arrays of the trial that are already on the mesh may be donated.
        """
        layout = fitted(self.layout, self.width, self._compiled)
        if layout.placement is not None:
            forget_other_meshes(layout.placement.mesh)
        parts = laid_out(layout, self.trials, trial, consume=consume)
        parts = [shared(part, self.fixed, self.origin) for part in parts]
        members = layout.members or 1
        placed = Placed(layout, parts, np.arange(members), [])
        placed = placed.rebalanced(np.arange(layout.slots) < members)
        return placed.progress(step)

    def chunks(
        self, progress: Progress, until: int | None = None, moments: Sequence[int] = ()
    ) -> Iterator[Progress]:
        """Trains, and yields a `Progress` after every chunk, with metrics if a report is due.

        Args:
          progress: the progress to start from; its arrays are donated.
          until: the step at which to stop; the end of the run by default.
          moments: further steps at which a chunk ends, in increasing order; for step 0, a chunk
            without steps is yielded.
        """
        last = self.steps if until is None else until
        with closing(self.feed(progress.placed.layout, last)) as feed:
            yield from self._chunks(progress, last, moments, feed)

    def feed(self, layout: Layout, last: int) -> Whole:
        """Returns the source of the training batches before the step `last`."""
        if not isinstance(self.data, Stream):
            return Whole(layout, self.data)
        return Streamed(layout, self.data, last, self.meter, self.ranges.get("train"))

    def _chunks(
        self, progress: Progress, last: int, moments: Sequence[int], feed: Whole
    ) -> Iterator[Progress]:
        placed, step = progress.placed, progress.step
        resident = {n: x for n, x in self.evaluations.items() if not isinstance(x, Stream)}
        evaluations = placed.layout.copies(resident)
        length, tokens, status = 1, None, None
        ahead = [moment for moment in moments if moment > step or moment == step == 0]
        if step and self._can_stop:
            going = np.hstack([np.asarray(part.status) for part in placed.parts]) == RUNNING
            if not going.any():
                return
            placed = placed.rebalanced(going)
        is_border = step % self.every == 0 or step == self.steps
        if step and is_border and placed.is_unreported():  # its evaluation could not be read
            placed, metrics = self._reported(placed, evaluations, self._sums(placed, step), step)
            yield placed.progress(step, metrics)
            status = [part.status for part in placed.parts] if self._can_stop else None
        waited = time.perf_counter()
        while step < last:
            border = min(self.steps, (step // self.every + 1) * self.every)
            n = min(length, border - step, (ahead[0] if ahead else last) - step, last - step)
            previous = tokens
            orders = [trial.order for trial in placed.parts]
            data, end = feed.at(step, orders, partial(are_ready, tokens))
            n = min(n, end - step)
            placed, tokens = self._advanced(placed, data, n)
            step += n
            if ahead and ahead[0] == step:
                ahead.pop(0)
            metrics = {}
            if step == border:
                try:
                    sums = self._sums(placed, step)
                except (Invalid, Stalled):
                    yield placed.progress(step)  # to save it; resuming makes the report
                    raise
                placed, metrics = self._reported(placed, evaluations, sums, step)
            # One chunk is always in progress while the host waits for the previous one.
            if previous is not None:
                jax.block_until_ready(previous)
                now = time.perf_counter()
                if now - waited < CHUNK_SECONDS / 2 and n == length:
                    length = min(2 * length, 1 << 24)
                elif now - waited > CHUNK_SECONDS:
                    length = max(1, length // 2)
                waited = now
                length = processes.agree("length", partial(int, length))
            # The status is read after the next chunk is dispatched, like all values that the host
            # reads. A chunk dispatched after the last run had stopped does and reports nothing.
            active = None if status is None else np.hstack(jax.device_get(status)) == RUNNING
            ended = active is not None and not active.any()
            yield placed.progress(step, {} if ended else metrics, idle=ended)
            if ended:
                return
            if active is not None:
                placed, status = placed.rebalanced(active), None
            if step == border and self._can_stop:
                status = [part.status for part in placed.parts]

    @property
    def devices(self) -> tuple[Any, ...]:
        """The devices that train."""
        placement = self.layout.placement
        return placement.devices if placement else self.layout.devices or devices_of(self.data)

    @property
    def _can_stop(self) -> bool:
        """Whether runs may stop early: a single run with patience, or any member."""
        return self.layout.members is not None or bool(self.watch and self.watch.patience)

    def trials(self, slots: Any = None) -> Trial:
        """Returns the initial trial of a single run, or the initial trials of the given slots."""
        window, members = measures.empty(self.metrics), self.layout.members
        batches = first_batches(self.data, self.key, slots, members)
        data = self.data if batches is None else None
        return begin(
            self.learner, self.watch, tuple(self.names), window, self.key, self.hparams, data,
            slots, members, batches, self.origin,
        )  # fmt: skip

    def whole(self) -> Trial:
        """Returns the initial trial, or the initial trials of all members in order."""
        return self.trials(self.layout.numbers)

    def whole_shapes(self) -> Trial:
        """Returns the shapes and dtypes of `whole`, with shardings if the run is on a mesh."""
        return shapes_on(self.layout.placement, jax.eval_shape(self.whole))

    def lowered(self) -> Any:
        """Lowers the program that trains a single run; once compiled, training reuses it."""
        trial = self.whole_shapes()
        data = traced(self.data, trial.order, self.layout.placement)
        rest, constants = split(trial.state, self.fixed)
        if self.form == "stepped":
            return stepped.lower(self.learner, rest, trial.window, data, constants)
        status = trial.status if self._can_stop else None
        arguments = rest, trial.window, data, status, np.int32(0), constants
        return looped.lower(self.learner, None, *arguments)

    def _compiled(self, layout: Layout) -> Any:
        """Compiles the program that trains the members of a device; training reuses it."""
        share = layout.slots // len(layout.devices)
        sharding = SingleDeviceSharding(layout.devices[0])

        def there(tree):
            return jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
            )

        trial = self.shapes(share)
        trial, ordered = there((trial, traced(self.data, trial.order)))
        arguments = trial.state, trial.window, ordered, trial.status, np.int32(0)
        return looped.lower(self.learner, layout.width, *arguments).compile()

    def shapes(self, count: int) -> Trial:
        """Returns the shapes and dtypes of the trials of `count` members."""
        return jax.eval_shape(self.trials, np.zeros(count, np.int32))

    def _advanced(self, placed: Placed, data: list[Any], n: int) -> tuple[Placed, list[Any]]:
        """Dispatches `n` steps on every device; returns the trials and a token for each device."""
        parts, tokens = [], []
        for trial, mine, busy in zip(placed.parts, data, placed.busy):
            status = trial.status if self._can_stop else None
            # A selection may have restarted a member, which the host does not know yet.
            busy = busy if self.select is None else None
            state, window, token = advance(
                self.learner, trial.state, mine, n, trial.window, self.form,
                status=status, width=placed.layout.width, busy=busy, fixed=self.fixed,
            )  # fmt: skip
            parts.append(trial._replace(state=state, window=window))
            tokens.append(token)
        return replace(placed, parts=parts), tokens

    def _evaluates(self, step: int) -> bool:
        """Returns whether an evaluation is due at a report."""
        before = (step - 1) // self.every * self.every
        return step // self.evaluate_every > before // self.evaluate_every or step == self.steps

    def _sums(self, placed: Placed, step: int) -> list[dict[str, Any]]:
        """Evaluates on streams if an evaluation is due; returns the sums for each device."""
        sums: list[dict[str, Any]] = [{} for _ in placed.parts]
        due = self.evaluations if self._evaluates(step) else {}
        for name, data in due.items():
            if isinstance(data, Stream):
                shapes, ranges = self.evaluated[name], self.ranges.get(name)
                over = sums_of(self.learner, placed, data, shapes, self.meter, ranges)
                sums = [own | {name: more} for own, more in zip(sums, over)]
        return sums

    def _reported(
        self,
        placed: Placed,
        evaluations: list[dict[str, Any]],
        sums: list[dict[str, Any]],
        step: int,
    ) -> tuple[Placed, dict[str, Any]]:
        """Returns the trials after a report and its metrics; `sums` are those over streams."""
        first = min(-(-self.evaluate_every // self.every) * self.every, self.steps)
        due, width = self._evaluates(step), placed.layout.width
        parts = [
            report(self.learner, self.watch, width, trial, mine if due else {}, own, self.fixed)
            for trial, mine, own in zip(placed.parts, evaluations, sums)
        ]
        placed = replace(placed, parts=parts)
        names = [name for name in self.names if due or name.startswith("train/")]
        values = placed.ordered(lambda trial: {name: trial.metrics[name] for name in names})
        metrics = {name: values[name] for name in names}
        if first > self.every and placed.layout.members is not None:
            # A member that stopped before the first evaluation has no evaluation metrics.
            done = placed.ordered(lambda trial: trial.state.step) >= first
            metrics |= {
                name: jnp.where(done, value, jnp.nan)
                for name, value in metrics.items()
                if not name.startswith("train/")
            }
        if self.select is not None and due and step < self.steps:
            placed = selected(self.select, self.key, placed, step)
            state = placed.ordered(
                lambda trial: (trial.parent, getattr(trial.state, "hparams", {}))
            )
            parent, hparams = jax.tree.map(jnp.copy, state)
            metrics |= {"select/parent": parent} | {f"select/{k}": v for k, v in hparams.items()}
        return placed, metrics
