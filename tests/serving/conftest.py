"""A run on the digits, and its server."""

import optax
import pytest

import jaxnn

pytest.importorskip("starlette", reason="Starlette is not installed: pip install -e '.[serve]'")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install -e '.[serve]'")


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """The directory of a run that has learned to read digits in a second."""
    import jax

    out = tmp_path_factory.mktemp("served") / "digits"
    network = jaxnn.serial(jaxnn.standardize(4.88, 6.02), jaxnn.mlp([32], 10))
    learner = jaxnn.learner(network, jaxnn.classification(), optax.adam(3e-3))
    data = jaxnn.resident(jaxnn.datasets.digits(), batch_size=64)
    jaxnn.fit(
        learner, data, steps=300, key=jax.random.key(0), out=jaxnn.Directory(out, report=True)
    )
    return out


@pytest.fixture(scope="session")
def served(digits_run):
    """The run as the server has it, with all compiled."""
    from jaxnn.serving.served import open_model

    model = open_model(digits_run)
    model.warm()
    return model


@pytest.fixture(scope="module")
def client(served):
    """A client of a server of the run."""
    from tests.serving.clients import serving

    with serving(served) as client:
        yield client
