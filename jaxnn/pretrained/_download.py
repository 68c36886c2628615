"""Downloading: the files of a model from a hub, of one revision, checked against digests."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from jaxnn.checks import InvalidValue
from jaxnn.pretrained.packages import package
from jaxnn.typing import Any

# What `load` reads: no pickles, and nothing that runs.
PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]


def download(
    name: str,
    *,
    revision: str,
    files: list[str] | None = None,
    digests: Mapping[str, str] | None = None,
    folder: str | Path | None = None,
    endpoint: str | None = None,
) -> Path:
    """Fetches a model from Hugging Face's hub, and returns the folder that it is in.

    What is there already is not fetched again; without a network, a complete copy is used.

        folder = download("HuggingFaceTB/SmolLM2-135M-Instruct", revision="7e27bd9")
        model = load(folder)

    Args:
      name: `owner/name`, as on the hub.
      revision: a commit, best as its whole hash; of a branch, such as `"main"`, somebody may change
        what it is.
      files: patterns of what to fetch; by default weights as safetensors, configuration and
        tokenizer. For a GGUF file its name, `["*Q4_1.gguf"]`.
      digests: SHA-256 by name of a file, in hexadecimal: those that must match.
      folder: where to put the files; by default in the hub's own cache.
      endpoint: of the server, by default the hub's.

    Raises:
      InvalidValue: if there is no such model, revision or file, the server cannot be reached and
        no complete copy is here, or a digest is another.
    """
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise InvalidValue(
            "pretrained.download",
            "the name is not one of the hub",
            got=repr(name),
            expected="owner/name",
            fix="Write it as in the address of its page: 'HuggingFaceTB/SmolLM2-135M-Instruct'",
        )
    hub = package("huggingface_hub", "downloading models")
    options: dict[str, Any] = {} if folder is None else {"local_dir": Path(folder).expanduser()}
    try:
        place = Path(
            hub.snapshot_download(
                name,
                revision=revision,
                allow_patterns=PATTERNS if files is None else files,
                endpoint=endpoint,
                **options,
            )
        )
    except Exception as error:  # of several libraries below: of the hub, HTTP and the disk
        raise InvalidValue(
            "pretrained.download",
            f"{name} could not be fetched at revision {revision}",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300],
            expected="a model, a revision and files that are there, and a network to reach them",
            fix="Compare both with the model's page; for one that needs a login set HF_TOKEN",
        ) from error
    _check_digests(place, digests or {})
    return place


def _check_digests(place: Path, digests: Mapping[str, str]) -> None:
    for file, expected in digests.items():
        path = place / file
        if not path.is_file():
            raise InvalidValue(
                "pretrained.download",
                f"there is no {file} to compare with its digest",
                got=f"{place} without it",
                expected="the file",
                fix="Add it to files",
            )
        with path.open("rb") as contents:
            digest = hashlib.file_digest(contents, "sha256").hexdigest()
        if digest != expected.lower():
            raise InvalidValue(
                "pretrained.download",
                f"{file} is not what it should be",
                got=f"SHA-256 {digest}",
                expected=expected,
                fix=f"Delete {path}, and fetch it again; if it is the same, ask who changed it",
            )
