"""`load_model`: opens a model file, and predicts by it."""

from dataclasses import dataclass, field
from pathlib import Path

import jax

from jaxnn.checks import Invalid, InvalidType
from jaxnn.exporting import archive, tokens
from jaxnn.exporting.archive import Archive
from jaxnn.exporting.description import Description
from jaxnn.exporting.program import Program, unsafe_calls
from jaxnn.exporting.specs import from_json
from jaxnn.exporting.tokens import Tokens
from jaxnn.exporting.verifying import verify
from jaxnn.runs.prediction import Executable, NoProgram
from jaxnn.typing import Any


@dataclass(frozen=True)
class Model:
    """A model that predicts by itself, as `load_model` returns it.

    Attributes:
      path: its file.
      description: what it takes and gives.
      tokenizer: from text to tokens and back, for a model of text.
      params: the arrays that the program reads, by name; they are read from the file when used.
      examples: `(inputs, outputs)` of two examples, as they were where the file was written.
      program: predicts: `(arrays, inputs) -> outputs`.
    """

    path: Path
    description: Description
    tokenizer: Tokens | None
    params: dict[str, Any] = field(repr=False)
    examples: tuple[Any, Any] = field(repr=False)
    program: Executable = field(repr=False)

    def predict(self, inputs: Any, *, batch_size: int = 1024) -> Any:
        """Returns the outputs for any number of inputs, as NumPy arrays, those of `Run.predict`.

        A model of a table takes its rows, as `read_table` reads them, and returns a table of
        predictions: classes by name, numbers in the unit of the labels.

        Args:
          inputs: `[examples, ...]`, such as `description.inputs` says; or the rows of a table: a
            file, a data frame, a dict of columns, a list of dicts.
          batch_size: the most examples that the device computes at once.

        Raises:
          InvalidType: if the inputs do not have the structure and shapes of `description.inputs`.
          InvalidValue: if their numbers do not fit into its dtype, or columns are lacking.
        """
        columns = self.description.columns
        if columns is None:
            return self.program("predict", inputs, batch_size)
        rows = columns.encode(inputs, labels=False)
        return columns.decode(self.program("predict", rows["inputs"], batch_size))


def load_model(path: str | Path, *, check: bool = True) -> Model:
    """Opens a model file that `export` wrote, without the code that built the network.

    Nothing that the file holds is executed but its program: matrix products and the like.

    Args:
      path: the file.
      check: whether to compute the outputs of its two examples, and compare them.

    Raises:
      CorruptModel: if the file is not what was written.
      InvalidValue: if it is of a newer format, or calls something that may do more than compute.
      NoProgram: if this version of jax cannot read its program.
      WrongPredictions: if it predicts other numbers for its examples.
      OSError: if there is no such file.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise InvalidType(
            "load_model",
            "the path is that of a folder",
            got=str(path),
            expected="a model file",
            fix=f"Write one: jaxnn.export({str(path)!r}, 'model.jaxnn')",
        )
    file = Archive(path)
    params = file.arrays(archive.PARAMS)
    try:
        description = Description.from_json(file.content)
        program = Program.from_json(file.content["program"], file.read(archive.PROGRAM))
        specs = [from_json(tree) for tree in file.content["examples"]]
        examples = _examples(file.arrays(archive.EXAMPLES), *specs)
        tokenizer = None
        if archive.TOKENIZER in file.places:
            tokenizer = tokens.read(file.read(archive.TOKENIZER))
        _check_arrays(program, params)
    except Invalid:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        got = f"{type(error).__name__}: {error}"
        raise file.corrupt(f"{archive.MODEL} is inconsistent", got, "what export wrote") from None
    executable = Executable(_opened(path, program, description), params, description.limits)
    if check:
        verify(path, executable, *examples)
    return Model(path, description, tokenizer, params, examples, executable)


def _opened(path: Path, program: Program, description: Description) -> Any:
    try:
        exported = program.open()
        calls = unsafe_calls(exported)
    except Exception as error:
        raise NoProgram(
            "load_model",
            f"the program of {path} cannot be read by jax {jax.__version__}",
            got=f"{type(error).__name__}: {str(error).splitlines()[0][:200]}",
            expected=f"one that this version reads; jax {description.versions.get('jax')} wrote it",
            fix="Use that version of jax, or a newer one",
        ) from error
    if calls:
        raise Invalid(
            "load_model",
            f"the program of {path} calls what is not known to compute only",
            got=", ".join(calls)[:200],
            expected="StableHLO alone",
            fix="Do not use a file whose author you do not trust",
        )
    return exported


def _check_arrays(program: Program, params: dict[str, Any]) -> None:
    for name, spec in program.arrays.items():
        array = params[name]
        if array.shape != spec.shape or array.dtype.name != spec.dtype:
            raise ValueError(f"{name} is {array.dtype}{list(array.shape)}, and not {spec}")


def _examples(arrays: dict[str, Any], inputs: Any, outputs: Any) -> tuple[Any, Any]:
    def tree(specs: Any, prefix: str) -> Any:
        names = archive.names_of(specs, prefix)
        return jax.tree.unflatten(jax.tree.structure(specs), [arrays[name] for name in names])

    return tree(inputs, "inputs"), tree(outputs, "outputs")
