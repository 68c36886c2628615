"""Collects the contents of a model file from a run, a run directory or a network."""

from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.data._resident import stored
from jaxnn.exporting.description import Description, Kind, Task
from jaxnn.exporting.tokens import Tokens, characters_of
from jaxnn.formatting import reason
from jaxnn.masked import Masked
from jaxnn.names import named_leaves
from jaxnn.network import Network
from jaxnn.observing.observation import inputs_of
from jaxnn.observing.plan import probe_data
from jaxnn.pretrained import Pretrained
from jaxnn.runs import layers, writing
from jaxnn.runs._fit import Run
from jaxnn.runs._load import Loaded, load
from jaxnn.runs.lowering import Predict, lower, named_state, shapes
from jaxnn.runs.prediction import meaning, warn_unless_refused
from jaxnn.runs.verifying import sample_of
from jaxnn.scale.placement import alone
from jaxnn.storage import json_files, program_file, recording
from jaxnn.storage.directory import MEANING, RESULT
from jaxnn.storage.program import Program, unsafe_calls
from jaxnn.storage.program_file import LAYERS, WRITER
from jaxnn.storage.specs import Spec, without_examples
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
    task: Task | None = None
    classes: tuple[str, ...] | None = None
    columns: Columns | None = None
    tokens: Tokens | None = None
    results: Mapping[str, Any] = {}
    predict: Predict | None = None
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
    (build, forms), arrays = named_state(tree), named_leaves(tree)

    def bind(arrays):
        own = build(arrays)
        return network, own["params"], own["state"]

    def predict(arrays, inputs):
        _, params, state = bind(arrays)
        return network.apply(params, state, inputs)[0]

    source = _lowered("model", predict, arrays, inputs)
    if writing.is_text(source.program.inputs, source.program.outputs):
        return _with(source, arrays, {"writer": partial(writing.exported, bind, forms)})
    shown = partial(layers.exported, bind, forms, shapes(inputs))
    return _with(source, arrays, {"layers": shown})


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
    if inputs is None:
        data = probe_data(training)
        batch = data.take(jnp.arange(min(EXAMPLES, data.num_examples)))
        inputs = jax.device_get(inputs_of(learner, state, batch))
    inputs = _first(inputs)
    build, leaves = named_state(state)[0], named_leaves(state)

    def predict(arrays, inputs):
        return learner.predict(build(arrays), inputs)

    with alone(learner):  # the file is for any machine
        name = run.result.get("experiment", "run")
        source = _lowered(name, predict, leaves, inputs)
        more = {"layers": layers.export, "writer": writing.export}
        source = _with(source, leaves, {n: partial(make, training) for n, make in more.items()})
    about = meaning(training)
    results = {name: x for name, x in run.result.items() if name != "experiment"}
    columns = training.sample.columns if training.data.num_examples > 0 else None
    return _named(source._replace(results=results), about, columns)


def _of_directory(path: Path, inputs: Any, network: Network | None) -> Source:
    loaded = load(path, network=network)
    program, recorded = loaded.program, recording.read(loaded.run)
    wanted = program.signature[1]
    if inputs is None and recorded:
        inputs = _recorded(recorded, wanted)
    if inputs is None:
        inputs = jax.tree.map(sample_of, wanted)
    about, result = (
        json_files.read(file) if file.exists() else {}
        for file in (loaded.run / MEANING, path / RESULT)
    )
    name = str(result.pop("experiment", path.resolve().name))
    lowered = _checked(lambda: program.program)
    source = Source(name, lowered, program.own, _first(inputs), results=_member(result, loaded))
    if network is not None:
        params, state = loaded.predicting
        source = source._replace(predict=lambda arrays, x: network.apply(params, state, x)[0])
    files = {"layers": LAYERS, "writer": WRITER}
    more = {name: partial(program_file.read, loaded.run, file) for name, file in files.items()}
    source = _with(source, loaded.arrays, more)
    return _named(source, about, loaded.columns)


def _with(
    source: Source, arrays: Mapping[str, Any], more: Mapping[str, Callable[[], Program | None]]
) -> Source:
    """Returns the source with the other programs that can be exported, and their arrays."""
    programs = {}
    for name, make in more.items():
        try:
            program = make()
            program = program and _safe(program)
        except Exception as error:  # a network may contain anything that JAX cannot export
            warn_unless_refused("the model file", name, error)
        else:
            if program is not None and set(program.arrays) <= set(arrays):
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


def _named(source: Source, about: Mapping[str, Any], columns: Columns | None) -> Source:
    """Returns the source with the task, and the classes, columns or tokenizer; see `meaning`."""
    kind, names = about.get("kind"), tuple(map(str, about.get("names") or ()))
    outputs = source.program.outputs
    if columns is not None:
        labels = columns.labels
        classes = labels[0].labels if columns.task == "classification" else None
        return source._replace(task=columns.task, classes=classes and tuple(classes),
                               columns=columns)  # fmt: skip
    shape = getattr(outputs, "shape", ())
    width = shape[-1] if shape else 0
    if writing.is_text(source.program.inputs, outputs):
        tokens = characters_of(names) if len(names) == width else None
        return source._replace(task="next_token", tokens=tokens)
    accurate = any(name.endswith("accuracy") for name in source.results)
    scores = kind != "regression" and accurate and len(shape) == 2 and width != 1
    if kind == "classification" or scores:
        names = names if len(names) == width else tuple(map(str, range(width)))
        return source._replace(task="classification", classes=names)
    return source._replace(task="regression" if kind == "regression" else None)


def _first(inputs: Any) -> Any:
    """Returns the first examples in the dtypes used for training."""
    inputs = stored("export", {"inputs": inputs})["inputs"]
    return jax.tree.map(lambda x: np.asarray(x[:EXAMPLES]), inputs)


def _lowered(name: str, predict: Predict, arrays: dict[str, Any], inputs: Any) -> Source:
    leaves = jax.tree.leaves(inputs)
    whole = all(np.issubdtype(x.dtype, np.integer) for x in leaves)
    sequences = len(leaves) == 1 and leaves[0].ndim == 2 and whole
    sequences &= not isinstance(inputs, Masked)
    forms = shapes(arrays), shapes(inputs)
    program = _checked(lambda: lower(predict, *forms, sequences=sequences))
    own = {name: arrays[name] for name in program.arrays}
    return Source(name, program, own, inputs, predict=predict)


def _checked(make: Callable[[], Program]) -> Program:
    try:
        return _safe(make())
    except Exception as error:
        raise InvalidType(
            "export",
            "the model has no program that stands by itself",
            got=reason(error),
            expected="a network of operations that jax.export takes, without callbacks into Python",
            fix="Replace the part that it names",
        ) from error


def _safe(program: Program) -> Program:
    """Returns the program; raises `ValueError` if it may have side effects."""
    if calls := unsafe_calls(program.exported):
        raise ValueError(f"it calls {', '.join(calls)}, which is not StableHLO")
    return program


def description_of(source: Source, name: str | None = None, kind: Any = None) -> Description:
    """Returns the description of a model; name and kind are inferred unless they are given."""
    program = source.program
    first = jax.tree.leaves(program.inputs)[0].shape[0]
    text = writing.is_text(program.inputs, program.outputs)
    return Description(
        name or source.name,
        kind or _kind(source),
        without_examples(program.inputs),
        without_examples(program.outputs),
        source.task or ("next_token" if text else None),
        source.classes,
        source.columns,
        tuple(getattr(source.tokens, "stop", ())),
        getattr(source.tokens, "template", None),
        program.limits,
        first if isinstance(first, int) else None,
        program.platforms,
        source.results,
        {"jax": jax.__version__, "jaxlib": metadata.version("jaxlib"), "jaxnn": _version()},
    )


def _kind(source: Source) -> Kind:
    """Infers the kind of inputs from their shapes and dtypes."""
    if source.columns is not None:
        return "table"
    inputs = source.program.inputs
    if not isinstance(inputs, Spec):
        return "other"
    shape = inputs.shape[1:]
    if len(shape) == 1:
        text = writing.is_text(inputs, source.program.outputs) or source.tokens is not None
        whole = np.issubdtype(np.dtype(inputs.dtype), np.integer)
        return "tokens" if whole and (text or inputs.dtype == "int32") else "vector"
    pixels = [size for size in shape[:2] if isinstance(size, int) and size > 3]
    return "image" if len(pixels) == 2 and shape[2:] in ((), (1,), (3,), (4,)) else "other"


def _version() -> str:
    try:
        return metadata.version("jaxnn-toolkit")
    except metadata.PackageNotFoundError:  # jaxnn is on the path, but not installed
        return "unknown"
