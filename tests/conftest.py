"""What holds in every test: annotations are enforced, dtypes and ranks strict, two CPU devices."""

import jaxtyping

# Before anything imports jaxnn: from here on, every annotation in it is checked at every call.
jaxtyping.install_import_hook("jaxnn", "beartype.beartype")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_compilation_cache", False)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def key():
    return jax.random.key(0)
