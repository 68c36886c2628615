"""Compiles fast, to programs that run slowly: most of what a test takes is the compiler's time."""

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


def _exists(name: str, value: bool | int) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile({name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True
