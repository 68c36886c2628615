"""The configuration of all tests: enforced annotations, and the fixtures of `tests.fixtures`."""

import gc
import signal

import jaxtyping

import tests.annotations  # noqa: F401  (jaxtyping looks it up by its name)

# Background jobs of a shell ignore Ctrl-C, and the processes that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
gc.set_threshold(100_000)  # tracing creates many objects, few of them garbage

# This must precede the first import of jaxnn, whose annotations are then checked in each call.
jaxtyping.install_import_hook("jaxnn", "tests.annotations.checked")


def pytest_configure(config):
    # The process that hands the tests out to others does not import jaxnn, which takes seconds.
    if config.getoption("dist", "no") == "no" or config.option.collectonly:
        config.pluginmanager.import_plugin("tests.fixtures")
