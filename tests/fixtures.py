"""The fixtures of all tests, and the settings of JAX: strict rank promotion, and two devices.

Compilation is fast and programs are slow, except in tests of bits, memory and time: `optimized`.
"""

import ctypes
import gc
import inspect
import os
import resource
import signal
import sys
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

import jaxnn
from tests import compiling

# Reports are off by default, because they are slow; tests of reports pass `report=True`.
init = inspect.unwrap(jaxnn.Directory.__init__)
init.__defaults__ = (*init.__defaults__[:-1], False)

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
compiling.fast()
compiling.once()


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def strict():
    """Enables strict dtype promotion; not in all tests, since Adam of Optax mixes dtypes."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="module")
def optimized():
    """Compiles with all optimizations, as for users, in tests of bits, time and memory."""
    jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()


@pytest.fixture(scope="module", autouse=True)
def as_before():
    """Restores what a module changes for the whole process: modules are run in any order."""
    variables, folder, options = dict(os.environ), os.getcwd(), jax.config.values
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    handlers = {number: signal.getsignal(number) for number in numbers}
    threshold, frozen = gc.get_threshold(), gc.get_freeze_count()
    yield
    os.environ.update(variables)  # what libraries add at their first import stays
    os.chdir(folder)
    now = jax.config.values
    changed = [name for name, value in options.items() if now.get(name) != value]
    for name in changed:
        jax.config.update(name, options[name])
    if any("cache" in name for name in changed):
        compilation_cache.reset_cache()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    gc.set_threshold(*threshold)
    if gc.get_freeze_count() != frozen:
        gc.unfreeze()
    # Data frames take the options of the last file with their columns.
    if reading := sys.modules.get("jaxnn.reading.options"):
        reading._READ.clear()


@pytest.fixture(scope="module", autouse=True)
def within_memory():
    """Clears the compilation cache after a module if the process uses more than 2 GB."""
    yield
    statistics = Path("/proc/self/statm")
    if statistics.exists():  # on Linux
        pages = int(statistics.read_text().split()[1])
        if pages * resource.getpagesize() > 2e9:
            jax.clear_caches()
            ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="module")
def torn_engine():
    """Collects what the checkpoint engine leaves behind after an injected failure."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """Returns the `Reference`: the outcome of an uninterrupted run of each kind."""
    from tests.harness import Reference

    return Reference(tmp_path_factory.mktemp("reference"))


@pytest.fixture
def compilations():
    """Returns a list to which each compilation appends an element; clear it before use."""
    jax.random.key(0)  # compiles in advance
    return _compiled


_compiled: list[str] = []


def _listen(event, seconds, **details):
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)


@pytest.fixture
def cache_options(monkeypatch, tmp_path):
    """Restores the options of the compile cache after a test, and moves its default folder.

    The cache of the tests, `compiling.once`, is off meanwhile.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = [name for name in dir(jax.config) if "compilation_cache" in name]
    names += [name for name in dir(jax.config) if "persistent_cache" in name]
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def command_line(monkeypatch, capsys, tmp_path):
    """Returns `call(config, main, *options)`, which runs an experiment as from the command line.

    `call` returns the exit code, the lines of stdout, and the text of stderr.
    """
    from experiments.command import command

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    handler, threshold = signal.getsignal(signal.SIGTERM), gc.get_threshold()

    def call(config, main, *options):
        monkeypatch.setattr(sys, "argv", ["command", *options])
        code = 0
        try:
            command(config, main)
        except SystemExit as error:
            code = error.code
        output, errors = capsys.readouterr()
        return code, output.splitlines(), errors

    yield call
    signal.signal(signal.SIGTERM, handler)
    gc.unfreeze()
    gc.set_threshold(*threshold)
