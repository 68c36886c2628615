"""The persistent compile cache: a program that was compiled once is loaded from then on."""

import os
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache


def compile_cache(path: str | Path | None = None) -> Path:
    """Saves each compiled program in a folder, and loads it when it is needed again.

    A notebook cell that is run again builds an equal network and learner anew, and `jax.jit`, which
    knows a function by its identity, compiles all their programs again; so does every process.
    After this call the compiler is asked only for programs that no run on this machine has had:
    an equal cell starts to train in a fraction of the time, with the same bits. Call it first, in a
    notebook or a script; programs compiled before the call are not saved.

    It sets options of jax for the whole process: `jax_compilation_cache_dir`, and thresholds that
    let small programs in. jax identifies a program by its text, its compile options, the device and
    the versions of jax and XLA, so that a stale one is never loaded. Whoever may write to the
    folder may run code as you: share it only with people you trust.

    Args:
      path: the folder; by default the one that jax is set to already, such as by the variable
        `JAX_COMPILATION_CACHE_DIR`, or else `jaxnn/compiled` in the user's cache directory.

    Returns:
      The folder.

    >>> compile_cache("/tmp/compiled").name  # doctest: +SKIP
    'compiled'
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    present = jax.config.values["jax_compilation_cache_dir"]
    folder = Path(path or present or Path(home, "jaxnn", "compiled")).expanduser()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Small programs are most of what a small network compiles.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # jax decides once in a process whether there is a cache: here it decides anew.
    compilation_cache.reset_cache()
    return folder
