"""The persistent compilation cache, which loads programs that an earlier process has compiled."""

import os
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache


def compile_cache(path: str | Path | None = None) -> Path:
    """Saves each compiled program in a folder, and loads it when it is needed again.

    `jax.jit` identifies a function by its identity, so every process compiles all programs again,
    and so does a notebook cell that builds an equal network and learner again. After this call,
    only programs that are new to this machine are compiled: an equal cell starts to train in a
    fraction of the time, with bitwise equal results. Call it first in a notebook or script, since
    programs that were compiled before the call are not saved.

    This function sets JAX options for the whole process: `jax_compilation_cache_dir`, and the
    thresholds that exclude small programs. JAX identifies a program by its text, its compiler
    options, the device and the versions of JAX and XLA, so it never loads a stale one. Anyone with
    write access to the folder can run code as you, so share it only with people you trust.

    Args:
      path: the folder. By default the one that JAX already uses, for example because of the
        environment variable `JAX_COMPILATION_CACHE_DIR`, or else `jaxnn/compiled` in the user's
        cache directory.

    Returns:
      The path of the folder.

    >>> compile_cache("/tmp/compiled").name  # doctest: +SKIP
    'compiled'
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    present = jax.config.values["jax_compilation_cache_dir"]
    folder = Path(path or present or Path(home, "jaxnn", "compiled")).expanduser()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Most programs of a small network are small.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # JAX checks only once per process whether a cache is set; the reset makes it check again.
    compilation_cache.reset_cache()
    return folder
