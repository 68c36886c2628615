"""The description of a model's inputs and outputs, which a model file stores in `model.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from jaxnn.checks import Explained
from jaxnn.storage import specs
from jaxnn.tables import Columns
from jaxnn.typing import Any

FORMAT = 1
Kind = Literal["image", "table", "tokens", "vector", "other"]
Task = Literal["classification", "regression", "multi_label", "next_token"]


class CorruptModel(Explained):
    """A model file is corrupt."""


@dataclass(frozen=True)
class Description:
    """A description of the inputs and outputs of a model.

    Attributes:
      name: the name of the model.
      kind: the kind of inputs: `"image"` for `[height, width]` or `[height, width, channels]`,
        `"table"` for rows of `columns`, `"tokens"` for integers, `"vector"`, or `"other"`.
      inputs: the shape and dtype of one example, without the batch axis, as a `Spec` or a tree of
        `Spec`s; for a table, those of the encoded rows.
      outputs: the shape and dtype of the outputs for one example.
      task: the meaning of the outputs: `"classification"` or `"multi_label"` for logits,
        `"regression"` for numbers, `"next_token"` for logits of each next token, or `None`.
      classes: the names of the classes, in the order of the outputs.
      columns: the columns of the table that the model was trained on.
      stop: the tokens that end a text.
      template: the Jinja template of a conversation.
      limits: the lower and upper bound of each dynamic size, such as `{"length": (1, 64)}`.
      batch: the number of examples that the program computes at once; `None` if it is dynamic.
      platforms: the platforms that the program was lowered for.
      results: the metrics of the model, such as `{"best/test/accuracy": 0.98}`.
      versions: the versions of jax, jaxlib and jaxnn that wrote the file.
      digests: the sha256 of each other entry in the file.
    """

    name: str
    kind: Kind
    inputs: Any
    outputs: Any
    task: Task | None = None
    classes: tuple[str, ...] | None = None
    columns: Columns | None = None
    stop: tuple[int, ...] = ()
    template: str | None = None
    limits: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    batch: int | None = None
    platforms: tuple[str, ...] = ()
    results: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Returns the description as a JSON-compatible dict."""
        columns = None if self.columns is None else self.columns.to_json()
        rest = {"inputs": specs.to_json(self.inputs), "outputs": specs.to_json(self.outputs)}
        return {**self.__dict__, **rest, "columns": columns}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Description":
        """Returns the description from the output of `to_json`.

        Raises:
          ValueError, KeyError or TypeError: if the content is invalid.
        """
        for name, types in _TYPES.items():
            if not isinstance(content[name], types):
                raise ValueError(f"{name} is a {type(content[name]).__name__}")
        for name, known in (("kind", get_args(Kind)), ("task", (None, *get_args(Task)))):
            if content[name] not in known:
                raise ValueError(f"{name} {content[name]!r}")
        classes, columns, limits = (content[name] for name in ("classes", "columns", "limits"))
        converted = {
            "inputs": specs.from_json(content["inputs"]),
            "outputs": specs.from_json(content["outputs"]),
            "classes": None if classes is None else tuple(map(str, classes)),
            "columns": None if columns is None else Columns.from_json(columns),
            "stop": tuple(map(int, content["stop"])),
            "limits": {
                name: (int(low), None if high is None else int(high))
                for name, (low, high) in limits.items()
            },
            "platforms": tuple(map(str, content["platforms"])),
        }
        return cls(**{each.name: content[each.name] for each in fields(cls)} | converted)


_TYPES: dict[str, Any] = {
    "name": str,
    "classes": list | None,
    "columns": str | None,
    "stop": list,
    "template": str | None,
    "limits": dict,
    "batch": int | None,
    "platforms": list,
    "results": dict,
    "versions": dict,
    "digests": dict,
}
