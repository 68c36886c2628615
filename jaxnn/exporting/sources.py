"""Collects the contents of a model file from a run, a run directory or a network."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.data._resident import stored
from jaxnn.exporting.lowering import lower, shapes
from jaxnn.exporting.program import PLATFORMS, Program, program_of
from jaxnn.exporting.tokens import Tokens, characters_of
from jaxnn.masked import Masked
from jaxnn.names import named_leaves
from jaxnn.network import Network
from jaxnn.observing.observation import inputs_of
from jaxnn.observing.plan import bind, kind_of, probe_data
from jaxnn.pretrained import Pretrained
from jaxnn.runs import layers, writing
from jaxnn.runs._fit import Run
from jaxnn.runs._load import Loaded, load
from jaxnn.runs.prediction import sample_of, unread
from jaxnn.scale.placement import alone
from jaxnn.storage import json_files, recording
from jaxnn.storage.directory import MEANING, RESULT
from jaxnn.tables import Columns
from jaxnn.typing import Any, Callable

EXAMPLES = 2


class Source(NamedTuple):
    """The contents of a model file.

    Attributes:
      name: the name of the model.
      program: the program that predicts.
      arrays: the arrays that the programs read, by name.
      examples: the example inputs.
      task: the meaning of the outputs, see `Description`.
      classes: the names of the classes.
      columns: the columns of the table that the model was trained on.
      tokens: the tokenizer.
      results: the metrics of the model.
      predict: the function `(arrays, inputs) -> outputs`, if available.
      more: the other programs, `layers` and `writer`, by name.
    """

    name: str
    program: Program
    arrays: Mapping[str, Any]
    examples: Any
    task: str | None = None
    classes: tuple[str, ...] | None = None
    columns: Columns | None = None
    tokens: Tokens | None = None
    results: Mapping[str, Any] = {}
    predict: Callable[[Any, Any], Any] | None = None
    more: Mapping[str, Program] = {}


def source_of(model: Any, inputs: Any, network: Network | None = None) -> Source:
    """Returns the contents of a model file for the `model` argument of `export`."""
    if isinstance(model, str | Path):
        return _of_directory(Path(model).expanduser(), inputs, network)
    if isinstance(model, Run):
        return _of_run(model, inputs)
    if isinstance(model, Pretrained):
        inputs = np.zeros((EXAMPLES, 8), np.int32) if inputs is None else inputs
        source = _of_network(model.network, model.params, model.state, inputs)
        name = str(model.config.get("_name_or_path") or model.config.get("model_type", "model"))
        return source._replace(name=name, tokens=model.tokenizer)
    if isinstance(model, tuple) and len(model) == 3 and isinstance(model[0], Network):
        return _of_network(*model, inputs)
    raise InvalidType(
        "export",
        "the model has the wrong type",
        got=f"a {type(model).__name__}",
        expected="a run, its directory, a pretrained model, or (network, params, state)",
        fix="Pass what fit returns, or export((network, params, state), path, inputs=inputs)",
    )


def _of_network(network: Network, params: Any, state: Any, inputs: Any) -> Source:
    if inputs is None:
        raise InvalidValue(
            "export",
            "a network does not say what its inputs are",
            got="inputs=None",
            expected="a few examples, such as the network was trained on",
            fix="Pass inputs=data['inputs'][:2]",
        )
    inputs = _first(inputs)
    tree = {"params": params, "state": state}
    structure, arrays = jax.tree.structure(tree), named_leaves(tree)
    names, forms = [*arrays], shapes(arrays)  # JAX sorts the names of a dict

    def bind(arrays):
        own = jax.tree.unflatten(structure, [arrays.get(name, forms[name]) for name in names])
        return network, own["params"], own["state"]

    def predict(arrays, inputs):
        _, params, state = bind(arrays)
        return network.apply(params, state, inputs)[0]

    source = _lowered("model", predict, forms, arrays, inputs)
    if writing.is_text(source.program.inputs, source.program.outputs):
        return _with(source, arrays, writer=lambda: writing.exported(bind, forms, PLATFORMS))
    one = jax.tree.map(lambda x: x[:1], inputs)
    return _with(source, arrays, layers=lambda: layers.exported(bind, forms, one, PLATFORMS))


def _of_run(run: Run, inputs: Any) -> Source:
    training = run.training
    if run.members is not None or training is None:
        if run.out is None:
            raise InvalidValue(
                "export",
                "a population in memory is many models",
                got=f"{run.members} members",
                expected="one",
                fix="Pass (network, params, state) of the best one, or train with fit(out=...) and"
                " export the directory",
            )
        return _of_directory(run.out, inputs, None)
    learner, state = run.learner, run.best
    bound = bind(training)
    if inputs is None:
        data = probe_data(training)
        batch = data.take(jnp.arange(min(EXAMPLES, data.num_examples)))
        inputs = jax.device_get(inputs_of(learner, state, batch))
    inputs = _first(inputs)
    leaves, structure = named_leaves(state), jax.tree.structure(state)
    order, forms = [*leaves], shapes(leaves)  # JAX sorts the names of a dict

    def predict(arrays, inputs):
        whole = [arrays[n] if n in arrays else unread(forms[n]) for n in order]
        return learner.predict(jax.tree.unflatten(structure, whole), inputs)

    with alone(learner):  # the file is for any machine
        source = _lowered(run.result.get("experiment", "run"), predict, forms, leaves, inputs)
        more = {
            "layers": partial(layers.export, training),
            "writer": partial(writing.export, training),
        }
        source = _with(source, leaves, **more)
    names = bound.objective.names if bound else ()
    has_examples = training.data.num_examples > 0
    kind = kind_of(training, state)[0] if has_examples else "other"
    results = {name: x for name, x in run.result.items() if name != "experiment"}
    columns = training.sample.columns if has_examples else None
    return _named(source, kind, names, columns)._replace(results=results)


def _of_directory(path: Path, inputs: Any, network: Network | None) -> Source:
    loaded = load(path, network=network)
    recorded = recording.read(path)
    about = json_files.read(path / MEANING) if (path / MEANING).exists() else {}
    predictor = loaded.predictor
    arrays, wanted = predictor.signature
    if inputs is None:
        inputs = _recorded(recorded, wanted) if recorded else None
    if inputs is None:
        inputs = jax.tree.map(sample_of, wanted)
    result = json_files.read(path / RESULT) if (path / RESULT).exists() else {}
    name = str(result.pop("experiment", path.name))
    program = _checked(lambda: program_of(predictor.program))
    own = {name: predictor.arrays[name] for name in arrays}
    source = Source(name, program, own, _first(inputs), results=_member(result, loaded))
    if network is not None:
        of = () if loaded.member is None else loaded.member
        params, state = jax.tree.map(lambda x: x[of], (loaded.params, loaded.state))
        source = source._replace(predict=lambda arrays, x: network.apply(params, state, x)[0])
    names = tuple(map(str, about.get("names") or ()))
    source = _with(source, predictor.arrays, layers=partial(layers.read, path))
    return _named(source, about.get("kind"), names, loaded.columns)


def _with(source: Source, arrays: Mapping[str, Any], **more: Callable[[], Any]) -> Source:
    """Returns the source with the other programs that can be exported, and their arrays."""
    programs = {}
    for name, exported in more.items():
        with suppress(Exception):  # these programs are optional
            program = program_of(exported())
            if jax.tree.leaves(program.outputs) and set(program.arrays) <= set(arrays):
                programs[name] = program
    own = {name: arrays[name] for program in programs.values() for name in program.arrays}
    return source._replace(more=programs, arrays={**source.arrays, **own})


def _member(result: dict[str, Any], loaded: Loaded) -> dict[str, Any]:
    """Returns the result of a run; for a population, of the member that predicts."""
    if loaded.member is None:
        return result
    return {k: v[loaded.member] if isinstance(v, list) else v for k, v in result.items()}


def _recorded(recorded: recording.Recording, wanted: Any) -> Any:
    """Returns the recorded examples, or `None` if they do not have the expected shape."""
    inputs = recorded.probe.get("inputs")
    if inputs is None or not hasattr(wanted, "shape") or inputs.shape[1:] != wanted.shape[1:]:
        return None
    return inputs.astype(wanted.dtype)


def _named(source: Source, kind: Any, names: Sequence[str], columns: Columns | None) -> Source:
    """Returns the source with the task, and the classes, columns or tokenizer."""
    outputs = source.program.outputs
    if columns is not None:
        labels = columns.labels
        classes = labels[0].labels if columns.task == "classification" else None
        return source._replace(task=columns.task, classes=classes and tuple(classes),
                               columns=columns)  # fmt: skip
    width = getattr(outputs, "shape", (0,))[-1]
    if writing.is_text(source.program.inputs, outputs):
        tokens = characters_of(names) if len(names) == width else None
        return source._replace(task="next_token", tokens=tokens)
    if kind == "classification":
        names = names if len(names) == width else [str(number) for number in range(width)]
        return source._replace(task="classification", classes=tuple(names))
    return source._replace(task="regression" if kind == "regression" else None)


def _first(inputs: Any) -> Any:
    """Returns the first examples in the dtypes used for training."""
    inputs = stored("export", {"inputs": inputs})["inputs"]
    return jax.tree.map(lambda x: np.asarray(x[:EXAMPLES]), inputs)


def _lowered(name: str, predict: Any, forms: Any, arrays: Any, inputs: Any) -> Source:
    leaves = jax.tree.leaves(inputs)
    whole = all(np.issubdtype(x.dtype, np.integer) for x in leaves)
    sequences = len(leaves) == 1 and leaves[0].ndim == 2 and whole
    sequences &= not isinstance(inputs, Masked)
    program = _checked(partial(lower, predict, forms, shapes(inputs), sequences=sequences))
    own = {name: arrays[name] for name in program.arrays}
    return Source(name, program, own, inputs, predict=predict)


def _checked(lower: Any) -> Program:
    try:
        return lower()
    except Exception as error:
        raise InvalidType(
            "export",
            "the model has no program that stands by itself",
            got=f"{type(error).__name__}: {str(error).splitlines()[0][:300]}",
            expected="a network of operations that jax.export takes, without callbacks into Python",
            fix="Replace the part that it names",
        ) from error
