"""`load_model`: opens a model file for prediction."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jax
import numpy as np

from jaxnn.checks import Invalid, InvalidValue
from jaxnn.exporting import archive, tokens
from jaxnn.exporting.archive import Archive
from jaxnn.exporting.description import Description
from jaxnn.exporting.generating import Drawing, Writer, writer_of
from jaxnn.exporting.sources import description_of, source_of
from jaxnn.exporting.tokens import Tokens
from jaxnn.runs.executable import Executable
from jaxnn.runs.verifying import check_examples
from jaxnn.storage.program import Program, unsafe_calls
from jaxnn.storage.specs import from_json
from jaxnn.typing import Any, Array, Key


@dataclass(frozen=True)
class Model:
    """A self-contained model, as returned by `load_model`.

    Attributes:
      path: the model file or the run directory.
      description: the description of inputs and outputs.
      tokenizer: the tokenizer of a language model, or `None`.
      params: the arrays that the program reads, by name; they are read from the file on first use.
      examples: the inputs and outputs of two examples, computed when the file was written;
        `None` in place of the outputs for a run directory.
      program: the program that predicts, with its arrays.
      more: the other programs in the file, by name; see `layers` and `writer`.
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
        """The program that computes the outputs of each layer for one example, or `None`."""
        return self._opened("layers")

    @cached_property
    def writer(self) -> Writer:
        """The `Writer`, which generates text.

        Raises:
          InvalidType: if the model is not a language model.
        """
        return writer_of(self.program, self._opened("writer"))

    def _opened(self, name: str) -> Executable | None:
        program = self.more.get(name)
        if program is None:
            return None
        return _executable(self.path, program, self.params, self.description)

    def predict(self, inputs: Any, *, batch_size: int = 1024) -> Any:
        """Returns the outputs for any number of inputs as NumPy arrays, like `Run.predict`.

        A model that was trained on a table takes rows, as `read_table` does, and returns a table of
        predictions, with classes by name and numbers in the unit of the labels.

        Args:
          inputs: arrays `[examples, ...]` that match `description.inputs`, or the rows of a table
            as a file, a data frame, a dict of columns, or a list of dicts.
          batch_size: the maximum number of examples that the device computes at once.

        Raises:
          InvalidType: if the inputs do not have the structure and shapes of `description.inputs`.
          InvalidValue: if values do not fit into the dtype, or columns are missing.
        """
        return self.program.predict(inputs, batch_size, self.description.columns)

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
        """Generates the continuation of a prompt: text for text, or tokens for tokens.

        Args:
          prompt: text, if the model has a tokenizer, or int tokens `[time]`.
          length: the maximum number of tokens to generate.
          key: the PRNG key for sampling; `jax.random.key(0)` by default.
          temperature: the divisor of the logits; 0 selects the most probable token.
          top_k: if given, samples from the `top_k` most probable tokens.
          top_p: if given, samples from the most probable tokens with this total probability.
          stop: the tokens that end the text; `description.stop` by default.

        Raises:
          InvalidType: if the model is not a language model.
          InvalidValue: if a number is out of range, or the prompt cannot be encoded.
        """
        drawn = [*self._tokens(prompt, length, key, temperature, top_k, top_p, stop)]
        if isinstance(prompt, str):
            return self._tokenizer().decode(drawn)
        return np.array(drawn, np.int32)

    def generate_pieces(self, prompt: Any, length: int = 200, **sampling: Any) -> Iterator[Any]:
        """Yields the result of `generate` piece by piece, during generation.

        For a text prompt, a piece is one or more complete characters; for tokens, one token.

        Args:
          prompt: see `generate`.
          length: see `generate`.
          **sampling: the other arguments of `generate`.
        """
        drawn = self._tokens(prompt, length, **sampling)
        return tokens.pieces(self._tokenizer(), drawn) if isinstance(prompt, str) else drawn

    def _tokens(
        self,
        prompt: Any,
        length: int,
        key: Key[Array, ""] | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: Sequence[int] | None = None,
    ) -> Iterator[int]:
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
    """Opens a model file or a run directory, without the code that built the network.

    No Python code is loaded from it. Only its programs are executed, after a check that they
    contain only operations on arrays.

    Args:
      path: a model file written by `export`, or the directory of a run, of which the best state
        predicts.
      check: whether to compute the outputs of the examples in a file, and compare them.

    Raises:
      CorruptModel: if the file is corrupt.
      InvalidValue: if its format is newer, or a program calls functions not known to be safe.
      NoProgram: if this version of JAX cannot read the program, or a run has none.
      NoCheckpoint: if a directory has no valid checkpoint.
      WrongPredictions: if the outputs for the examples differ from the stored ones.
      OSError: if the file does not exist or cannot be read.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _of_run(path)
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
    executable = _executable(path, program, params, description)
    if check:
        check_examples(path, executable, *examples)
    return Model(path, description, tokenizer, params, examples, executable, more)


def _of_run(path: Path) -> Model:
    """Opens a run directory as a model, without writing a file."""
    source = source_of(path, None)
    program = Executable(source.program, source.arrays, str(path))
    arrays, examples = dict(source.arrays), (source.examples, None)
    return Model(path, description_of(source), source.tokens, arrays, examples, program,
                 source.more)  # fmt: skip


def _executable(path: Path, program: Program, arrays: Any, description: Description) -> Executable:
    """Returns an opened program; raises if it calls what may have side effects."""
    origin = f"{path}, which jax {description.versions.get('jax')} wrote,"
    executable = Executable(program, arrays, origin)
    if calls := unsafe_calls(executable.exported):
        raise InvalidValue(
            "load_model",
            f"the program of {path} calls what is not known to compute only",
            got=", ".join(calls)[:200],
            expected="StableHLO alone",
            fix="Do not use a file whose author you do not trust",
        )
    return executable


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
