"""The command line that every experiment has: its `Config` as options, a run directory, exit codes.

Exit codes: 0 done, 2 bad input, 3 not finite, 5 directory in use, 6 storage, 75 interrupted.
"""

import inspect
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import jax

import jaxnn
from jaxnn.records.directory import digest
from jaxnn.records.progress import describe
from jaxnn.scale import devices


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every experiment takes beside its own fields."""

    out: Path | None = None  # run directory (default: runs/NAME/DIGEST of the configuration)
    compile_cache: bool = True  # keep compiled programs in the user's cache directory


def command(config_type: type, main: Callable[[Any, Path], jaxnn.Run]) -> None:
    """Runs an experiment from the command line: `main(config, out)`, which returns its `Run`."""
    # Before anything else, so that a stop while starting leaves with the right code too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    name = Path(inspect.getfile(main)).stem
    try:
        config, options = _parse(name, config_type, inspect.getdoc(inspect.getmodule(main)))
        out = options.out or Path("runs") / name / digest(config)
        if options.compile_cache:
            _use_compile_cache()
        print(f"{name}: {devices.describe()}", flush=True)
        warning = devices.idle_accelerator()
        if warning:
            print(warning, file=sys.stderr, flush=True)
        run = main(config, out)
    except jaxnn.Invalid as error:
        _leave(2, error)
    except jaxnn.NotFinite as error:
        _leave(3, error)
    except jaxnn.DirectoryInUse as error:
        _leave(5, error)
    except OSError as error:
        _leave(6, f"storage: {error}")
    except KeyboardInterrupt as error:
        _leave(75, f"interrupted: {error}" if str(error) else "interrupted")
    reached = {k: v for k, v in run.result.items() if k.startswith("test/")} or {
        k: v for k, v in run.result.items() if k.startswith("train/")
    }
    print(f"{name}: {describe(reached)} in {run.result['seconds']:.1f} s; see {run.out}")


def _parse(name: str, config_type: type, description: str | None) -> tuple[Any, Options]:
    # Imported here, since the tests and notebooks that import an experiment need no command line.
    import tyro

    def options(
        config: Annotated[Any, tyro.conf.arg(name="")],
        options: Annotated[Options, tyro.conf.arg(name="")],
    ) -> tuple[Any, Options]:
        return config, options

    options.__annotations__["config"] = Annotated[config_type, tyro.conf.arg(name="")]
    return tyro.cli(options, prog=f"python -m experiments.{name}", description=description)


def _use_compile_cache() -> None:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    jax.config.update("jax_compilation_cache_dir", str(Path(home) / "jaxnn" / "compiled"))
    # Small programs are most of what a small network compiles.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _leave(code: int, words: Any) -> NoReturn:
    print(words, file=sys.stderr, flush=True)
    raise SystemExit(code)
