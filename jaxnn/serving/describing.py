"""Describes a model for programs: the content of `/model` and `/openapi.json`."""

import jax
import numpy as np

from jaxnn.serving.bodies import LARGEST
from jaxnn.serving.layers import shapes_of
from jaxnn.serving.reading import MOST, column_names, described
from jaxnn.serving.served import Served
from jaxnn.typing import Any

_WHOLE = {"type": "integer"}
_REAL = {"type": "number"}
_TEXT = {"type": "string"}


def inputs(served: Served) -> str:
    """Describes the inputs of a model as text."""
    if served.about.columns is not None:
        return f"rows with the columns {', '.join(column_names(served))[:400]}"
    return str(jax.tree.map(described, served.inputs))


def model(served: Served) -> dict[str, Any]:
    """Returns the description of a model, the content of `/model`; the page is built from it."""
    about, framing = served.about, served.framing
    return {
        "name": about.name,
        "kind": about.kind,
        "task": about.task,
        "inputs": jax.tree.map(_example, served.inputs),
        "classes": about.classes and list(about.classes),
        "columns": _columns(served),
        "labels": [column.name for column in about.columns.labels] if about.columns else None,
        "image": framing and {"high": framing.high, "inverted": framing.inverted},
        "writes": served.writes,
        "layers": shapes_of(served),
        "results": {n: x for n, x in about.results.items() if "/" in n and isinstance(x, float)},
        "limits": {"bytes": LARGEST, "examples": MOST, "batches": list(served.buckets)},
    }


def openapi(served: Served, protected: bool) -> dict[str, Any]:
    """Returns the OpenAPI 3.1 description of all routes."""
    bodies: dict[str, Any] = {}
    if served.about.columns is not None:
        row = {"type": "object", "properties": {c["name"]: _cell(c) for c in _columns(served)}}
        bodies["rows"] = {"type": "array", "items": row, "maxItems": MOST}
    else:
        bodies["inputs"] = _tree(served.inputs)
    if served.about.kind == "image":
        bodies["images"] = {"type": "array", "items": _TEXT | {"contentEncoding": "base64"}}
    if served.framing is not None:
        point = {"type": "array", "items": _REAL, "minItems": 2, "maxItems": 2}
        stroke = {"type": "array", "items": point}
        bodies["strokes"] = {"type": "array", "items": stroke}
    schemas = [
        {"type": "object", "required": [name], "properties": {name: schema}}
        for name, schema in bodies.items()
    ]
    content: dict[str, Any] = {"application/json": {"schema": {"oneOf": schemas}}}
    if served.about.kind == "image":
        content["image/png"] = {"schema": {"contentMediaType": "image/png"}}
    error = {"type": "object", "properties": {"error": _TEXT}}
    said = {
        "400": "it is not JSON, or has a number that is not finite",
        "413": f"it has more than {LARGEST:,} bytes",
        "415": "it has another type, or is compressed",
        "422": "it is not what the model reads",
        "503": "there is more to do than can be queued; Retry-After says when to come again",
    }
    refusals = {
        status: {"description": what, "content": {"application/json": {"schema": error}}}
        for status, what in said.items()
    }
    answer = {"type": "object", "required": ["outputs"], "properties": _answer(served)}
    good = {"description": "An answer for each example",
            "content": {"application/json": {"schema": answer}}}  # fmt: skip
    predict = {
        "summary": "Predicts for examples",
        "requestBody": {"required": True, "content": content},
        "responses": {"200": good} | refusals,
    }
    paths = {"/predict": {"post": predict}} | {
        path: {"get": {"summary": what, "responses": {"200": {"description": "OK"}}}}
        for path, what in (
            ("/health", "Whether it can predict"),
            ("/model", "What the model takes and gives"),
        )
    }
    if served.writes:
        paths["/generate"] = {"post": _generate(refusals)}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": served.about.name, "version": "1", "summary": f"Reads {inputs(served)}"},
        "paths": paths,
    }
    if protected:
        document["components"] = {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}
        }
        document["security"] = [{"token": []}]
    return document


def _generate(refusals: dict[str, Any]) -> dict[str, Any]:
    numbers = {"length": _WHOLE, "temperature": _REAL, "top_k": _WHOLE, "seed": _WHOLE}
    schema = {"type": "object", "required": ["prompt"], "properties": {"prompt": _TEXT} | numbers}
    said = 'Events: data {"text": ...} for each piece, then done, or error'
    good = {"description": said, "content": {"text/event-stream": {}}}
    return {
        "summary": "Writes what follows a prompt, piece by piece",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": good} | refusals,
    }


def _answer(served: Served) -> dict[str, Any]:
    shown: dict[str, Any] = {"outputs": {"description": "What predict gives, an item an example"}}
    if served.about.columns is not None:
        shown["predictions"] = {"type": "array", "items": {"type": "object"}}
    elif served.about.task == "classification" and served.about.classes:
        shown["predictions"] = {"type": "array", "items": _TEXT}
        one = {"type": "array", "items": _REAL, "minItems": len(served.about.classes)}
        shown["probabilities"] = {"type": "array", "items": one}
    return shown


def _tree(example: Any) -> Any:
    if not hasattr(example, "shape"):
        items = example.items() if isinstance(example, dict) else enumerate(example)
        parts = {str(name): _tree(each) for name, each in items}
        return {"type": "object", "required": list(parts), "properties": parts}
    schema: dict[str, Any] = _WHOLE if np.issubdtype(example.dtype, np.integer) else _REAL
    for size in reversed(example.shape):
        sizes = {} if size is None else {"minItems": size, "maxItems": size}
        schema = {"type": "array", "items": schema} | sizes
    return {"type": "array", "items": schema, "maxItems": MOST}


def _example(example: Any) -> dict[str, Any]:
    return {"shape": list(example.shape), "dtype": np.dtype(example.dtype).name}


def _columns(served: Served) -> Any:
    if served.about.columns is None:
        return None
    known = [column for column in served.about.columns.inputs if column.kind != "left out"]
    return [_column(column) for column in known]


def _column(column: Any) -> dict[str, Any]:
    said = {"name": column.name, "kind": column.kind}
    if column.kind == "category":
        counts = dict(zip(column.values, column.counts))
        usual = max(counts, key=lambda value: counts[value])
        names = [value for value in column.values if value is not None]
        return said | {"values": names[:1000], "usual": usual, "dtype": column.dtype}
    if column.kind == "date":
        mean = _date(column)
        return said | ({"usual": mean} if mean else {})
    scale = column.scale
    return said | {"usual": scale.fill, "mean": scale.mean, "deviation": scale.deviation}


def _date(column: Any) -> str | None:
    """Returns the mean date of the training data, or `None` if times are not encoded."""
    from datetime import UTC, datetime

    if "time" not in column.parts:
        return None
    seconds = column.scales[column.parts.index("time")].mean
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _cell(column: dict[str, Any]) -> dict[str, Any]:
    if column["kind"] == "category":
        return {"enum": [*column["values"], None]} if len(column["values"]) <= 100 else {}
    return {"type": ["number" if column["kind"] == "number" else "string", "null"]}
