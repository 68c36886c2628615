"""Saves a model as a folder of safetensors that transformers and other libraries can load."""

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidValue, kind, positive_integer
from jaxnn.names import listing, named_leaves
from jaxnn.pretrained._load import STATE, Pretrained
from jaxnn.pretrained.rules import Link
from jaxnn.pretrained.safetensors_file import write_safetensors
from jaxnn.pretrained.source import CONFIG, INDEX, WEIGHTS
from jaxnn.typing import Any

# The suffixes of files that are copied with a model: text, but no code.
_COPIED = {".json", ".txt", ".jinja", ".model", ".md"}


def save(model: Pretrained, folder: str | Path, *, shard_bytes: int = 5 * 10**9) -> None:
    """Writes a model to a folder that transformers and compatible libraries can load.

    The tensors have the names, shapes and order of the source, and the dtype of the parameters, so
    `save(load(folder), other)` reproduces the weights bit for bit. Tensors that the network does
    not use are copied. If the source is a single file, such as a GGUF file, the folder has its
    weights as safetensors, a `config.json`, and the tokenizer, if the model has one.

        tuned = dataclasses.replace(model, params=run.state.params)
        save(tuned, "tuned")                      # AutoModel.from_pretrained("tuned")

    Args:
      model: a model from `load`, with the parameters to write.
      folder: the folder to write to. Existing weights are replaced after all files are written.
      shard_bytes: the maximum size of a file in bytes. A single larger tensor has its own file.

    Raises:
      InvalidType: if `model` is not a `Pretrained`.
      InvalidValue: if the parameters do not belong to the network that was loaded, or `shard_bytes`
        is not positive.
    """
    kind("pretrained.save", "model", model, Pretrained, fix="Pass what pretrained.load gives")
    positive_integer("pretrained.save", "shard_bytes", shard_bytes)
    source, links = model.source
    arrays = named_leaves(model.params)
    arrays |= {f"{STATE}{name}": x for name, x in named_leaves(model.state).items()}
    _check_arrays(links, arrays)
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    # The files are written to a temporary folder first: the source may be this very folder.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as draft:
        _write_weights(Path(draft), links, arrays, source.tensors, shard_bytes)
        _write_rest(Path(draft), model)
        for old in folder.glob("*.safetensors*"):
            old.unlink()
        for file in sorted(Path(draft).rglob("*")):
            if file.is_file():
                target = folder / file.relative_to(draft)
                target.parent.mkdir(exist_ok=True)
                os.replace(file, target)


def _write_weights(
    folder: Path,
    links: tuple[Link, ...],
    arrays: Mapping[str, Any],
    tensors: Mapping[str, Any],
    shard_bytes: int,
) -> None:
    forms = {}
    for each in links:
        dtype = arrays[each.ours[0]].dtype if each.ours else tensors[each.theirs].dtype
        forms[each.theirs] = each.shape, jnp.dtype(dtype)
    by_name = {each.theirs: each for each in links}
    shards = list(_shards(forms, shard_bytes))
    map_, total = {}, 0
    for number, names in enumerate(shards, start=1):
        file = WEIGHTS
        if len(shards) > 1:
            file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        part = {name: forms[name] for name in names}
        contents = (_tensor(by_name[name], arrays, tensors) for name in names)
        write_safetensors(folder / file, part, contents, {"format": "pt"})
        map_ |= dict.fromkeys(names, file)
        total += sum(_bytes(form) for form in part.values())
    if len(shards) > 1:
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": map_})


def _shards(forms: Mapping[str, Any], most: int) -> Iterator[list[str]]:
    """Yields the names of the tensors in each file."""
    names, size = [], 0
    for name, form in forms.items():
        if names and size + _bytes(form) > most:
            yield names
            names, size = [], 0
        names.append(name)
        size += _bytes(form)
    yield names


def _bytes(form: tuple[tuple[int, ...], Any]) -> int:
    return int(np.prod(form[0], dtype=np.int64)) * form[1].itemsize


def _tensor(each: Link, arrays: Mapping[str, Any], tensors: Mapping[str, Any]) -> np.ndarray:
    """Returns a tensor in the format of the source, from the arrays that it was split into."""
    if not each.ours:
        return tensors[each.theirs].read()
    layer = ... if each.layer is None else each.layer
    parts = [np.asarray(jax.device_get(arrays[name][layer])) for name in each.ours]
    return each.change.join(parts, each.shape)


def _check_arrays(links: tuple[Link, ...], arrays: Mapping[str, Any]) -> None:
    needed = {name for each in links for name in each.ours}
    if needed != arrays.keys():
        raise InvalidValue(
            "pretrained.save",
            "the parameters do not belong to the network",
            got=f"unexpected arrays {listing(sorted(arrays.keys() - needed), 4)}, and missing"
            f" {listing(sorted(needed - arrays.keys()), 4)}",
            expected="the arrays of the network that was loaded",
            fix="Pass the parameters of this network; merge adapters first",
        )
    for each in links:
        like = [np.broadcast_to(np.float32(0), arrays[name].shape) for name in each.ours]
        like = like if each.layer is None else [x[each.layer] for x in like]
        try:
            fits = not each.ours or each.change.join(like, each.shape).shape == each.shape
        except ValueError:
            fits = False
        if not fits:
            raise InvalidValue(
                "pretrained.save",
                f"the arrays of {each.theirs} have the wrong shapes",
                got=", ".join(f"{name} {tuple(arrays[name].shape)}" for name in each.ours),
                expected=f"arrays that form a tensor of shape {each.shape}",
                fix="Pass the parameters of the network that was loaded",
            )


def _write_rest(draft: Path, model: Pretrained) -> None:
    """Writes the configuration and the tokenizer, and copies the other text files of a folder."""
    source, _ = model.source
    if source.path.is_dir():
        files = itertools.chain(source.path.glob("*"), source.path.glob("*/*"))
        for file in files:
            target = draft / file.relative_to(source.path)
            text = file.suffix in _COPIED and not file.name.endswith(".index.json")
            if file.is_file() and text and not target.relative_to(draft).parts[0].startswith("."):
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, target)
    elif model.tokenizer is not None:
        for name, content in model.tokenizer.files().items():
            (draft / name).write_text(content)
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(model.params)}
    config = dict(model.config)
    if len(dtypes) == 1:
        name = "torch_dtype" if "torch_dtype" in config else "dtype"
        config[name] = dtypes.pop()
    _write_json(draft / CONFIG, config)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
