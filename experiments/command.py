"""The command line that every experiment has: options from `Config`, a run directory, exit codes.

    python -m experiments.digits --learning-rate 0.01
    python -m experiments.digits --sweep learning_rate=log:1e-4:1e-1:16 --seeds 8

After any interruption, the same command resumes the run. Exit codes: 0 finished, 2 bad input, 3 not
finite, 4 nothing to resume, 5 directory in use, 6 storage, 75 interrupted and saved.
"""

import atexit
import gc
import inspect
import os
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

import jaxnn
from experiments import planned, rehearsal
from experiments.fields import filled, hparams, swept
from jaxnn.catalog import outcome
from jaxnn.checks import positive_integer
from jaxnn.formatting import any_letters, brief
from jaxnn.planning import compilers
from jaxnn.planning.hardware import hardware
from jaxnn.runs._fit import NotFinitePolicy
from jaxnn.runs.exit_codes import exit_code
from jaxnn.scale import devices, processes, start, watch
from jaxnn.storage.directory import digest
from jaxnn.storage.json_files import plain


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of every experiment, besides its own fields."""

    out: Path | None = None  # run directory (default: runs/NAME/DIGEST of the configuration)
    resume: bool = False  # require an unfinished run, and fail if there is none
    allow_change: str = ""  # fields that may differ from the unfinished run: FIELD,FIELD
    compile_cache: bool = True  # keep compiled programs in the user's cache directory
    processes: int = 1  # number of local processes, one device each, to rehearse a run
    plan: str | None = None  # print memory and cost on v5e-1, v5e:4x4, a100x8, ...; train nothing


@dataclass(frozen=True, kw_only=True)
class SweepOptions(Options):
    """Options of an experiment that can train many networks."""

    sweep: tyro.conf.UseAppendAction[tuple[str, ...]] = ()  # FIELD=log:LOW:HIGH:COUNT or FIELD=A,B
    seeds: int | None = None  # number of seeds, counted from --seed
    not_finite: NotFinitePolicy = "stop"  # action after a step that is not finite
    profile: str | None = None  # FIRST:LAST, steps to profile with a trace and a table of parts
    metric: str | None = None  # metric that ranks a sweep (default: test accuracy, otherwise loss)


def command(
    config_type: type,
    main: Callable[..., jaxnn.Run | jaxnn.search.Swept],
    *,
    sweeps: bool = False,
    check: Callable[[], Any] | None = None,
) -> None:
    """Runs an experiment from the command line.

    Args:
      config_type: the type of its configuration.
      main: `(config, out, not_finite=...)`: trains into `out`, a `Directory` with the options of
        the command line, and returns a `Run`.
      sweeps: whether `main`, called with `(config, out)`, trains several runs itself.
      check: raises `Invalid` if what the experiment needs is not installed.
    """
    # First, so that an interruption during the start has the right exit code too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.showwarning = _warn
    any_letters()
    collect_seldom()
    name = Path(inspect.getfile(main)).stem
    try:
        config, options = _parse(name, config_type, main, Options if sweeps else SweepOptions)
        if check is not None:
            check()
        if options.plan is not None:
            return _show_plans(name, main, config, options.plan)
        positive_integer(name, "processes", options.processes)
        if options.processes > 1 and not rehearsal.is_child():
            raise SystemExit(rehearsal.run(options.processes))
        start()
        if not processes.is_first():
            sys.stdout = open(os.devnull, "w")
        many = isinstance(options, SweepOptions) and (options.sweep or options.seeds is not None)
        if options.compile_cache:
            jaxnn.compile_cache()
        if many or sweeps:
            _use_every_core()
        print(f"{name}: {devices.describe()}", flush=True)
        warning = devices.idle_accelerator()
        if warning:
            print(warning, file=sys.stderr, flush=True)
        with watch.together(exit_code):
            if many:
                done = _sweep(name, config, main, options)
            else:
                done = main(config, _directory(name, config, options), **_policy(options))
    except (Exception, KeyboardInterrupt) as error:
        code = exit_code(error)
        if code == 1:
            raise  # a defect, with its traceback
        watch.end(code, _words(error))
    page = f"{done.out}/report.html"
    see = page if os.path.exists(page) else done.out
    print(f"{name}: {_reached(done.result)} in {done.result['seconds']:.1f} s; see {see}")


def _show_plans(name: str, main: Callable, config: Any, target: str) -> None:
    """Prints the plan of each program of the experiment on some hardware."""
    compilers.devices_of(hardware(target))  # raises at once if something is unknown or missing
    for number, (plan, proposals) in enumerate(planned.plans(main, config, target)):
        print("\n" * bool(number) + f"{name}: {plan}", flush=True)
        if not plan.fits:
            print("What fits:" if proposals else "No tested configuration fits.", flush=True)
        for proposal in proposals:
            print(f"  {proposal}", flush=True)


def _sweep(name: str, config: Any, main: Callable, options: SweepOptions) -> jaxnn.search.Swept:
    """Trains a network for every combination, in as few populations as shapes allow."""
    sweep = swept(config, options.sweep, options.seeds)
    asked = {**plain(config), "sweep": options.sweep, "seeds": options.seeds or 1}
    return jaxnn.fit_sweep(
        sweep,
        lambda values, runs, out: _group(filled(config, values, runs), out, main, options),
        out=_directory(name, asked, options),
        structural=[field for field in sweep.fields if field not in hparams(config)],
        metric=options.metric,
    )


def _group(config: Any, out: jaxnn.Directory, main: Callable, options: SweepOptions) -> jaxnn.Run:
    return main(config, replace(out, config=config), **_policy(options))


def _directory(name: str, config: Any, options: Options) -> jaxnn.Directory:
    """Returns the run directory of the options."""
    path = options.out or Path("runs") / name / digest(config)
    names = options.allow_change.split(",")
    return jaxnn.Directory(path, name, config, options.resume, names)


def _policy(options: Options) -> dict[str, Any]:
    """Returns the options that are passed on to `fit`."""
    if not isinstance(options, SweepOptions):
        return {}
    return {"not_finite": options.not_finite, "profile": options.profile}


def _reached(result: dict[str, Any]) -> str:
    """Returns the result of a run or a sweep, in words."""
    if "runs" not in result:
        return outcome.sentence(result, "test/") or outcome.sentence(result, "train/")
    best = {k.removeprefix("best/"): v for k, v in result.items() if k.startswith("best/")}
    best = {field: value for field, value in best.items() if "/" not in field}
    where = ", ".join(f"{field}={brief(value)}" for field, value in best.items())
    figure = f"{result['metric']} {brief(outcome.outcome(result)[result['metric']])}"
    diverged = f" ({result['diverged']} diverged)" if result["diverged"] else ""
    runs = f"{result['runs']} run{'s' if result['runs'] > 1 else ''}{diverged}"
    return f"{runs}, best setting {where}: {figure}" if best else f"{runs}, {figure}"


def _parse(name: str, config_type: type, main: Callable, options_type: type) -> tuple[Any, Any]:
    def options(config: Any, options: Any) -> tuple[Any, Any]:
        return config, options

    for part, kind in (("config", config_type), ("options", options_type)):
        options.__annotations__[part] = Annotated[kind, tyro.conf.arg(name="")]
    description = inspect.getdoc(inspect.getmodule(main))
    return tyro.cli(options, prog=f"python -m experiments.{name}", description=description)


def collect_seldom() -> None:
    """Reduces garbage collection, since imports and traces create hardly any garbage."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(300_000)
    atexit.register(gc.freeze)  # what is left goes with the process


def _use_every_core() -> None:
    """Makes each core of the CPU a device, unless the user has said how many there are."""
    said = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if jax.config.values["jax_num_cpu_devices"] < 0 and not said:
        jax.config.update("jax_num_cpu_devices", os.cpu_count())


def _warn(message, category, filename, lineno, file=None, line=None) -> None:
    """Prints cautions about a run without the source line, and other warnings as usual."""
    words = warnings.formatwarning(message, category, filename, lineno, line)
    print(message if category is jaxnn.Caution else words, file=sys.stderr, flush=True)


def _words(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted: {error}" if str(error) else "interrupted"
    own = isinstance(error, OSError) and not isinstance(error, jaxnn.DirectoryInUse)
    return f"storage: {error}" if own else str(error)
