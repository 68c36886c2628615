"""Compiles fast, to programs that run slowly: most of what a test takes is the compiler's time."""

import atexit
from tempfile import TemporaryDirectory

import jax
from jax._src import compiler

# On a CPU fused kernels, lowered one by one, take most of what is left without optimizations.
FASTEST = ("xla_cpu_use_fusion_emitters", False), ("xla_cpu_parallel_codegen_split_count", 1)


def fast() -> None:
    """Compiles so from here on, as long as `jax_disable_most_optimizations` stays on."""
    fastest = [option for option in FASTEST if _exists(*option)]  # XLA drops options over time

    def options(*args, original=compiler.get_compile_options, **kwargs):
        options = original(*args, **kwargs)
        if options.executable_build_options.debug_options.xla_backend_optimization_level == 0:
            options.env_option_overrides = [*options.env_option_overrides, *fastest]
        return options

    jax.config.update("jax_disable_most_optimizations", True)
    compiler.get_compile_options = options


def once() -> None:
    """Compiles a program that several tests build only in the first of them.

    Each process has a folder of its own: JAX does not write the files of its cache atomically.
    """
    folder = TemporaryDirectory(prefix="compiled-")
    atexit.register(folder.cleanup)
    jax.config.update("jax_compilation_cache_dir", folder.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _exists(name: str, value: bool | int) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile({name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True
