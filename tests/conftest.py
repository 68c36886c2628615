"""What holds in every test: annotations are enforced, ranks strict, and there are two devices."""

import jaxtyping

import tests.annotations  # noqa: F401  (jaxtyping looks it up by its name)

# Before anything imports jaxnn: from here on, every annotation in it is checked at every call.
jaxtyping.install_import_hook("jaxnn", "tests.annotations.checked")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_compilation_cache", False)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def strict():
    """Forbids that dtypes are mixed; not everywhere, for Optax's Adam raises a float to an int."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="module")
def unoptimized():
    """Compiles faster, to slower programs: for what is computed once and need not be exact."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def compilations():
    """Returns a list to which every compilation adds an element, from when it is cleared."""
    return _compiled


_compiled: list[str] = []


def _listen(event, seconds, **details):
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)
