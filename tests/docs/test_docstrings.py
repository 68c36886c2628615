"""The examples in docstrings print what they say."""

import doctest
from importlib import import_module

import jax
import pytest

from tests.test_architecture import MODULES

WITH_EXAMPLES = sorted(name for name, path in MODULES.items() if ">>> " in path.read_text())
OPTIONAL = {"jaxnn.models.equinox": "equinox"}


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_its_examples_run(name):
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name])
    with jax.numpy_rank_promotion("allow"):  # as it is outside of tests
        failed, _ = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert not failed
