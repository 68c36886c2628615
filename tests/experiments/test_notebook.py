"""The Colab notebook runs as it stands, but for its sizes, on the CPU of whoever runs the tests."""

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
jupyter_client = pytest.importorskip("jupyter_client")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "experiments" / "notebooks").glob("*.ipynb"))
SIZES = {
    "colab_quickstart": 'digits_epochs, mnist_model, mnist_epochs, own_steps = 4, "mlp", 0.05, 300',
    "own_data": 'file, labels, ignore, epochs = None, "status", ["id"], 8',
}
PRINTED = {
    "colab_quickstart": {
        "devices": ["cpu"],
        "digits": ["of the held-out digits are read right"],
        "mnist": ["of the test images are read right", "skipped"],
        "predict": ["of the test buses came within"],
    },
    "own_data": {
        "read": ["customers.csv: 1,500 rows of 9 columns, delimiter ';'"],
        "split": ["960 rows to train on, 240 to stop by, 300 to test."],
        "predict": ["of the test rows are right"],
        "by-hand": ["'newsletter'"],
    },
}


def tags(cell):
    return cell.metadata.get("tags", [])


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    notebook = nbformat.read(request.param, as_version=4)
    notebook.metadata["name"] = request.param.stem
    return notebook


def test_it_is_valid_and_has_no_outputs(notebook):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_installing_leaves_jax_alone(notebook):
    [install] = [cell for cell in notebook.cells if "install" in tags(cell)]
    [line] = [line for line in install.source.splitlines() if "pip" in line]
    assert line.startswith("%pip install ") and "--no-deps" in line.split()
    assert not {"jax", "jaxlib", "flax"} & set(line.split())


@pytest.mark.nightly
def test_it_runs(notebook, tmp_path, monkeypatch):
    class ThisInterpreter(jupyter_client.AsyncKernelManager):
        """Finds no kernel in any folder, and so runs the interpreter that runs this test."""

        def _kernel_spec_manager_default(self):
            return jupyter_client.kernelspec.KernelSpecManager(kernel_dirs=[])

    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    # Without data at hand the notebook must say so and continue, without downloading.
    monkeypatch.setenv("JAXNN_DATA", os.environ.get("JAXNN_DATA") or str(tmp_path))

    notebook.cells = [cell for cell in notebook.cells if "install" not in tags(cell)]
    [parameters] = [cell for cell in notebook.cells if "parameters" in tags(cell)]
    name = notebook.metadata.pop("name")
    parameters.source = SIZES[name]
    nbclient.NotebookClient(
        notebook,
        kernel_name="python3",
        kernel_manager_class=ThisInterpreter,
        resources={"metadata": {"path": str(tmp_path)}},
        timeout=300,  # seconds for a cell
    ).execute()

    said = {cell.id: printed(cell) for cell in notebook.cells if cell.cell_type == "code"}
    for cell, words in PRINTED[name].items():
        assert any(each in said[cell] for each in words), said[cell]


def printed(cell):
    # What a file was read as is said beside the results, not among them.
    warned = [part["text"] for part in cell.outputs if part.get("name") == "stderr"]
    assert all(", delimiter " in text for text in warned), cell.outputs
    return "".join(part.get("text", "") for part in cell.outputs)
