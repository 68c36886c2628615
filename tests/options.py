"""The options of `fit` and `train`, one by one: tests vary a single one of them."""

from dataclasses import fields, replace
from typing import Any

import jaxnn

DIRECTORY = {field.name for field in fields(jaxnn.Directory)} - {"path"}
EXECUTION = {field.name for field in fields(jaxnn.Execution)}


def grouped(out: Any = None, **options: Any) -> dict[str, Any]:
    """Returns options with those of the directory, of execution and of time in their groups."""

    def group(names):
        return {name: options.pop(name) for name in names & options.keys()}

    directory, execution, rarely = (
        group(names) for names in (DIRECTORY, EXECUTION, {"evaluate_every"})
    )
    if out is not None or directory:
        whole = isinstance(out, jaxnn.Directory)
        options["out"] = replace(out, **directory) if whole else jaxnn.Directory(out, **directory)
    if execution:
        options["execution"] = jaxnn.Execution(**execution)
    if rarely:
        options["every"] = jaxnn.Every(options.get("every"), **{"evaluate": rarely.popitem()[1]})
    return options
