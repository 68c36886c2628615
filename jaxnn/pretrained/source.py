"""Opens the source of a model: a folder, a safetensors file, or a GGUF file."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxnn.checks import InvalidValue
from jaxnn.names import listing
from jaxnn.pretrained.gguf_file import read_gguf
from jaxnn.pretrained.gguf_models import as_model
from jaxnn.pretrained.json_source import read_json
from jaxnn.pretrained.safetensors_file import read_safetensors
from jaxnn.pretrained.stored import Stored, corrupt
from jaxnn.typing import Any

INDEX, WEIGHTS, CONFIG = "model.safetensors.index.json", "model.safetensors", "config.json"
_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".msgpack", ".h5", ".npy", ".npz"}


class Source(NamedTuple):
    """A model on disk.

    Attributes:
      path: the folder or file.
      config: the contents of config.json, or the settings of a GGUF file with the same keys.
      tensors: the tensors by name, which are read on demand.
      steps: the steps after the model: how to pool the tokens, and `"normalize"`. Often empty.
      settings: the settings of a GGUF file, including its tokenizer; `None` for other sources.
    """

    path: Path
    config: dict[str, Any]
    tensors: Mapping[str, Stored]
    steps: tuple[str, ...] = ()
    settings: dict[str, Any] | None = None

    @property
    def folder(self) -> Path:
        """The folder that holds the weights."""
        return self.path if self.path.is_dir() else self.path.parent


def open_source(path: Path) -> Source:
    """Opens a model and validates its files; the tensors themselves are read later.

    Raises:
      InvalidValue: if the path does not exist, if it has only pickles, or if a file is corrupt.
    """
    if path.suffix == ".gguf" and path.is_file():
        file = read_gguf(path)
        return Source(path, *as_model(path, file), settings=file.settings)
    if path.suffix == ".safetensors" and path.is_file():
        return Source(path, read_json(path.parent / CONFIG), read_safetensors(path)[0])
    if path.is_file():
        pickled = path.suffix in _PICKLES
        fix = "Get the safetensors of the same model, or convert the file in a sandbox"
        if not pickled:
            fix = f"Pass the folder or the file of the weights, such as {str(path.parent)!r}"
        raise InvalidValue(
            "pretrained.load",
            f"the file type {path.suffix or 'without a suffix'} is not supported"
            + (", since a pickle can execute arbitrary code" if pickled else ""),
            got=str(path),
            expected="a folder, a .safetensors or a .gguf file",
            fix=fix,
        )
    if not path.is_dir():
        raise InvalidValue(
            "pretrained.load",
            "the path does not exist",
            got=str(path),
            expected="a folder, a .safetensors or a .gguf file",
            fix="Download it first: jaxnn.pretrained.download('owner/name', revision='...')",
        )
    return _open_folder(path)


def _open_folder(path: Path) -> Source:
    if (path / INDEX).is_file():
        return Source(path, read_json(path / CONFIG), _shards(path), _steps(path))
    if (path / WEIGHTS).is_file():
        tensors, _ = read_safetensors(path / WEIGHTS)
        return Source(path, read_json(path / CONFIG), tensors, _steps(path))
    files = sorted(each for each in path.iterdir() if each.suffix == ".gguf")
    if len(files) == 1:
        return open_source(files[0])
    raise InvalidValue(
        "pretrained.load",
        "the folder has no supported weights",
        got=f"{path} with {listing(sorted(each.name for each in path.iterdir()), 8)}",
        expected=f"{WEIGHTS}, or {INDEX} and its shards, or one .gguf file",
        fix=_where_weights_are(path),
    )


def _where_weights_are(path: Path) -> str:
    """Returns what to do about a folder without weights that `load` reads."""
    files = sorted(path.glob("*.gguf")) + sorted(path.glob("*.safetensors"))
    inside = [each.parent for each in sorted(path.glob("*/config.json"))]
    if files:
        return f"Pass the path of one file, such as {str(files[0])!r}"
    if inside:
        return f"Pass the folder of the model, such as {str(inside[0])!r}"
    if any(each.suffix in _PICKLES for each in path.iterdir()):
        return "Get the safetensors of the same model: a pickle can execute arbitrary code"
    return "Pass the folder that holds config.json and the weights"


def _shards(path: Path) -> dict[str, Stored]:
    """Returns the tensors of all files of an index; raises if a file does not match the index."""
    index = read_json(path / INDEX).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(x, str) for x in index.values()):
        raise corrupt(path / INDEX, "it has no map of weights", repr(index)[:80], "{name: file}")
    tensors: dict[str, Stored] = {}
    for name in dict.fromkeys(index.values()):
        # A name must be a file of this folder, so that it cannot point to another folder.
        if Path(name).name != name or not (path / name).is_file():
            raise corrupt(path / INDEX, "it names a missing file", name, "a shard")
        inside, _ = read_safetensors(path / name)
        expected = {tensor for tensor, file in index.items() if file == name}
        if inside.keys() != expected:
            got = listing(sorted(inside.keys() ^ expected), 4)
            raise corrupt(
                path / name, "its tensors are not those of the index", got, "the same tensors"
            )
        tensors |= inside
    return tensors


_POOLINGS = {"cls_token": "first", "mean_tokens": "mean", "max_tokens": "max"}


def _steps(path: Path) -> tuple[str, ...]:
    """Returns the steps that sentence-transformers applies to the token features, in order."""
    if not (path / "modules.json").is_file():
        return ()
    _check_prompt(path / "config_sentence_transformers.json")
    steps = []
    for module in read_json(path / "modules.json", list):
        kind = str(module.get("type", "") if isinstance(module, dict) else "").rpartition(".")[2]
        if kind == "Pooling":
            steps.append(_pooling(path, str(module.get("path", ""))))
        elif kind == "Normalize":
            steps.append("normalize")
        elif kind != "Transformer":
            raise _unknown(path / "modules.json", f"the module {kind or module!r}")
    return tuple(steps)


def _check_prompt(path: Path) -> None:
    """Raises if a prompt is put before each text, which a network of tokens cannot do."""
    prompt = read_json(path).get("default_prompt_name") if path.is_file() else None
    if prompt is not None:
        raise InvalidValue(
            "pretrained.load",
            "the model puts a prompt before each text by default",
            got=f"default_prompt_name={prompt!r} in {path.name}",
            expected="no default prompt",
            fix="Set default_prompt_name to null, and put the prompt before the texts yourself",
        )


def _pooling(path: Path, folder: str) -> str:
    file = path / folder / CONFIG
    if Path(folder).name != folder:
        raise _unknown(path / "modules.json", f"the folder {folder!r}")
    settings = read_json(file)
    known = {"word_embedding_dimension", "include_prompt", "embedding_dimension", "pooling_mode"}
    prefix = "pooling_mode_"
    chosen = [name.removeprefix(prefix) for name, on in settings.items() if on is True]
    chosen = [name for name in chosen if name != "include_prompt"]
    if isinstance(settings.get("pooling_mode"), str):
        chosen = [{"cls": "cls_token"}.get(mode := settings["pooling_mode"], f"{mode}_tokens")]
    left = [name for name in settings if not name.startswith(prefix) and name not in known]
    if len(chosen) != 1 or chosen[0] not in _POOLINGS or left:
        raise _unknown(file, f"{settings}"[:200])
    return _POOLINGS[chosen[0]]


def _unknown(file: Path, what: str) -> InvalidValue:
    return InvalidValue(
        "pretrained.load",
        f"{file.name} has an unknown step",
        got=what,
        expected="a Transformer, one Pooling (cls, mean or max), and Normalize",
        fix="Remove modules.json, and add the step after the network",
    )
