"""What holds in every test: annotations are enforced, ranks strict, and there are two devices.

Programs are compiled fast and run slowly, but for the tests of bits, memory and time: `optimized`.
"""

import ctypes
import gc
import inspect
import resource
import signal
import sys
from pathlib import Path

import jaxtyping

import tests.annotations  # noqa: F401  (jaxtyping looks it up by its name)

# A shell lets its background jobs ignore Ctrl-C, and so would all processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
gc.set_threshold(100_000)  # what is traced and compiled is many objects, few of them garbage

# Before anything imports jaxnn: from here on, every annotation in it is checked at every call.
jaxtyping.install_import_hook("jaxnn", "tests.annotations.checked")

import jax  # noqa: E402
import pytest  # noqa: E402

import jaxnn  # noqa: E402
from tests import compiling  # noqa: E402

# Only tests of recordings and reports pay for them; `report=True` asks for one.
init = inspect.unwrap(jaxnn.Directory.__init__)
init.__defaults__ = (*init.__defaults__[:-1], False)

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_compilation_cache", False)
jax.config.update("jax_numpy_rank_promotion", "raise")
compiling.fast()


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def strict():
    """Forbids that dtypes are mixed; not everywhere, for Optax's Adam raises a float to an int."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="module")
def optimized():
    """Compiles as users do: for what is said of bits, of time and of memory."""
    jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()


@pytest.fixture(scope="module", autouse=True)
def within_memory():
    """Forgets what is compiled when it has become much."""
    yield
    statistics = Path("/proc/self/statm")
    if statistics.exists():  # on Linux
        pages = int(statistics.read_text().split()[1])
        if pages * resource.getpagesize() > 2e9:
            jax.clear_caches()
            ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="module")
def torn_engine():
    """Ends what the engine of checkpoints leaves behind where something fails in its middle."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """Returns what each kind of run comes to that nothing stops."""
    from tests.harness import Reference

    return Reference(tmp_path_factory.mktemp("reference"))


@pytest.fixture
def compilations():
    """Returns a list to which every compilation adds an element, from when it is cleared."""
    jax.random.key(0)  # which is made at once, also where all else is only traced
    return _compiled


_compiled: list[str] = []


def _listen(event, seconds, **details):
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)


@pytest.fixture
def cache_options(monkeypatch, tmp_path):
    """Lets a test set the compile cache, whose default is then a folder of its own."""
    from jax.experimental.compilation_cache import compilation_cache

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = [name for name in dir(jax.config) if "compilation_cache" in name]
    names += [name for name in dir(jax.config) if "persistent_cache" in name]
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def command_line(monkeypatch, capsys, tmp_path):
    """Returns `call(config, main, *options)`, which runs an experiment as from the command line.

    It returns the exit code, the lines of output, and the errors.
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
