"""Starts processes in 0.1 seconds, forked from a server that has already imported all modules.

The server has not initialized JAX. A forked process therefore has its own devices, and tests can
kill, stop and starve it like any other process.
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

PRELOADED = ["jaxnn", "experiments.command", "tests.harness"]


def context() -> Any:
    """Returns the `multiprocessing` context of the fork server."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    return server


def process(function: Callable[..., None], *arguments: Any) -> Any:
    """Starts a function in a daemon process, which does not outlive this process.

    The process has the environment variables of now, not those of when the server was started.
    """
    given = dict(os.environ), function, arguments
    started = context().Process(target=_call, args=given, daemon=True)
    started.start()
    return started


def _call(environment, function, arguments) -> None:
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)


def result_of(
    function: Callable[..., Any],
    place: Path,
    *arguments: Any,
    devices: int = 1,
    fast: bool = True,
    variables: Mapping[str, str] | None = None,
) -> Any:
    """Calls a function in a new process, and returns its result by way of JSON.

    Args:
      function: a module-level function; the process imports its module by name.
      place: a folder for the output and the result.
      *arguments: the arguments of the function.
      devices: the number of CPU devices.
      fast: whether to compile fast, without most optimizations.
      variables: additional environment variables; `XLA_FLAGS` is removed.
    """
    # The function is passed by name, so that its module is imported after devices are configured.
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
    """Returns a temporary folder for compiled programs, which exists as long as this process."""
    return TemporaryDirectory(prefix="compiled-")


def environment(cache: Path | str) -> dict[str, str]:
    """Returns the environment variables of a script that uses a compile cache."""
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def redirect(path: Path) -> None:
    """Redirects stdout and stderr of this process to a file."""
    said = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
