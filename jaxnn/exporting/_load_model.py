"""`load_model`: opens a model file, and predicts by it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jax
import numpy as np

from jaxnn.checks import Invalid, InvalidType, InvalidValue
from jaxnn.exporting import archive, tokens
from jaxnn.exporting.archive import Archive
from jaxnn.exporting.description import Description
from jaxnn.exporting.generating import Drawing, Writer, writer_of
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
      more: the programs that the file has besides, by name: see `layers` and `writer`.
    """

    path: Path
    description: Description
    tokenizer: Tokens | None
    params: dict[str, Any] = field(repr=False)
    examples: tuple[Any, Any] = field(repr=False)
    program: Executable = field(repr=False)
    more: Mapping[str, Program] = field(default_factory=dict, repr=False)

    @cached_property
    def layers(self) -> Executable | None:
        """The program of what each layer puts out for one example, by name; `None` without it."""
        return self._opened("layers")

    @cached_property
    def writer(self) -> Writer:
        """What writes text.

        Raises:
          InvalidType: if the model does not write text.
        """
        return writer_of(self.program, self._opened("writer"))

    def _opened(self, name: str) -> Executable | None:
        program = self.more.get(name)
        if program is None:
            return None
        return Executable(_opened(self.path, program, self.description), self.params)

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

    def generate(
        self,
        prompt: Any,
        length: int = 200,
        *,
        key: Any = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: Sequence[int] | None = None,
    ) -> Any:
        """Returns what follows a prompt: text after text, or tokens after tokens.

        Args:
          prompt: text, if the model has a tokenizer, or whole numbers `[time]`.
          length: how many tokens to draw at most.
          key: decides the draws; `jax.random.key(0)` by default.
          temperature: divides the logits: at 0 the likeliest token is taken.
          top_k: draws only from so many, the likeliest.
          top_p: draws only from the likeliest that together have this probability.
          stop: the tokens that end the text; `description.stop` by default.

        Raises:
          InvalidType: if the model does not write text.
          InvalidValue: if a number is out of range, or the prompt cannot be encoded.
        """
        arguments = prompt, length, key, temperature, top_k, top_p, stop
        drawn = [*self._tokens(*arguments)]
        if isinstance(prompt, str):
            return self._tokenizer().decode(drawn)
        return np.array(drawn, np.int32)

    def generate_pieces(
        self,
        prompt: Any,
        length: int = 200,
        *,
        key: Any = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: Sequence[int] | None = None,
    ) -> Iterator[Any]:
        """Yields what `generate` returns piece by piece, as it is drawn.

        Of text, a piece is whatever characters are complete; of tokens, it is one token.
        """
        drawn = self._tokens(prompt, length, key, temperature, top_k, top_p, stop)
        return tokens.pieces(self._tokenizer(), drawn) if isinstance(prompt, str) else drawn

    def _tokens(
        self, prompt: Any, length: int, key: Any, temperature: Any, top_k: Any, top_p: Any,
        stop: Sequence[int] | None,
    ) -> Iterator[int]:  # fmt: skip
        if isinstance(prompt, str):
            prompt = self._tokenizer().encode(prompt)
        key = jax.random.key(0) if key is None else key
        stop = self.description.stop if stop is None else stop
        return self.writer.tokens(prompt, length, Drawing(key, temperature, top_k, top_p), stop)

    def _tokenizer(self) -> Tokens:
        if self.tokenizer is None:
            raise InvalidValue(
                "generate",
                "the model has no tokenizer",
                got="text",
                expected="tokens, whole numbers [time]",
                fix="Export it with tokenizer=jaxnn.Characters(text)",
            )
        return self.tokenizer


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
        more = {
            name: Program.from_json(each, file.read(archive.MORE[name]))
            for name, each in file.content.get("programs", {}).items()
        }
        for each in (program, *more.values()):
            _check_arrays(each, params)
    except Invalid:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        got = f"{type(error).__name__}: {error}"
        raise file.corrupt(f"{archive.MODEL} is inconsistent", got, "what export wrote") from None
    executable = Executable(_opened(path, program, description), params, description.limits)
    if check:
        verify(path, executable, *examples)
    return Model(path, description, tokenizer, params, examples, executable, more)


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
        raise InvalidValue(
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
