"""The configuration of all tests: enforced annotations, and the fixtures of `tests.fixtures`."""

import gc
import os
import signal

from tests import annotations

# Background jobs of a shell ignore Ctrl-C, and the processes that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
gc.set_threshold(100_000)  # tracing creates many objects, few of them garbage

# This must precede the first import of jaxnn. The slow tests run without the checks.
if not os.environ.get("JAXTYPING_DISABLE"):
    annotations.enforce("jaxnn")


def pytest_configure(config):
    # The process that hands the tests out to others does not import jaxnn, which takes seconds.
    if config.getoption("dist", "no") == "no" or config.option.collectonly:
        config.pluginmanager.import_plugin("tests.fixtures")
