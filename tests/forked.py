"""Processes forked from a server that has imported all and started nothing: there in 0.1 seconds.

It is a process like any other, which may be killed, stopped and starved, and has its own devices.
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax

from tests import compiling

PRELOADED = ["jaxnn", "experiments.command", "orbax.checkpoint", "tests.harness"]


def context() -> Any:
    """Returns how processes are started."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    return server


def process(function: Callable[..., None], *arguments: Any) -> Any:
    """Starts a function in a process, which ends at the latest with this one."""
    started = context().Process(target=function, args=arguments, daemon=True)
    started.start()
    return started


def result_of(
    function: Callable[..., Any],
    place: Path,
    *arguments: Any,
    devices: int = 1,
    fast: bool = True,
    variables: Mapping[str, str] | None = None,
) -> Any:
    """Returns what a function returns, as JSON, in a process of its own.

    Args:
      function: of a module, which is imported only there.
      place: a folder for what it prints and returns.
      *arguments: of it.
      devices: of the CPU.
      fast: whether it compiles fast, to programs that run slowly.
      variables: of its environment, which has no XLA_FLAGS.
    """
    # By its name, since its module may not be imported before there are devices.
    named = function.__module__, function.__name__
    settings = devices, fast, dict(variables or {})
    child = process(_child, place, settings, *named, arguments)
    child.join(600)
    assert child.exitcode == 0, (child.exitcode, (place / "said").read_text()[-3000:])
    return json.loads((place / "result.json").read_text())


def _child(place, settings, module, name, arguments) -> None:
    devices, fast, variables = settings
    redirect(place / "said")
    os.environ.pop("XLA_FLAGS", None)
    os.environ.update(variables)
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_enable_compilation_cache", False)
    if fast:
        compiling.fast()
    function = getattr(import_module(module), name)
    (place / "result.json").write_text(json.dumps(function(*arguments)))


@cache
def compiled() -> TemporaryDirectory:
    """Returns a folder for the programs that processes compile, as long as this one lives."""
    return TemporaryDirectory(prefix="compiled-")


def environment(cache: Path | str) -> dict[str, str]:
    """Returns the environment of a script that loads what was compiled before it."""
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def redirect(path: Path) -> None:
    """Writes what this process says, to both of its outputs, to a file from here on."""
    said = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
