"""Downloads the files of a model at one revision, and verifies their digests."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from jaxnn.checks import InvalidValue
from jaxnn.pretrained.packages import package
from jaxnn.typing import Any

# The files that `load` reads. Pickles and Python files are excluded, because they can run code.
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
    """Downloads a model from the Hugging Face Hub, and returns the folder that holds its files.

    Files that are already present are not downloaded again. Without a network connection, a
    complete local copy is used.

        folder = download("HuggingFaceTB/SmolLM2-135M-Instruct", revision="7e27bd9")
        model = load(folder)

    Args:
      name: the repository, as `owner/name`.
      revision: a commit, preferably the full hash. A branch such as `"main"` can change over time.
      files: glob patterns of the files to download. The default is the safetensors weights, the
        configuration and the tokenizer. For a GGUF file, pass its name, such as `["*Q4_1.gguf"]`.
      digests: the expected SHA-256 of each file to verify, by file name, in hexadecimal.
      folder: the folder to write the files to. The default is the cache of the Hub client.
      endpoint: the address of the server. The default is the Hub.

    Returns:
      The path of the folder.

    Raises:
      InvalidValue: if the model, the revision or a file does not exist, if the server cannot be
        reached and there is no complete local copy, or if a digest does not match.
    """
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise InvalidValue(
            "pretrained.download",
            "the name is not that of a repository",
            got=repr(name),
            expected="owner/name",
            fix="Copy it from the model's page, as in 'HuggingFaceTB/SmolLM2-135M-Instruct'",
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
    except Exception as error:  # from several libraries: the Hub client, HTTP, and the file system
        raise InvalidValue(
            "pretrained.download",
            f"{name} could not be downloaded at revision {revision}",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300],
            expected="an existing model, revision and files, and a network connection",
            fix="Check both on the model's page; if the model requires a login, set HF_TOKEN",
        ) from error
    _check_digests(place, digests or {})
    return place


def _check_digests(place: Path, digests: Mapping[str, str]) -> None:
    for file, expected in digests.items():
        path = place / file
        if not path.is_file():
            raise InvalidValue(
                "pretrained.download",
                f"the folder has no {file} to verify",
                got=f"no such file in {place}",
                expected="the file",
                fix="Add it to files",
            )
        with path.open("rb") as contents:
            digest = hashlib.file_digest(contents, "sha256").hexdigest()
        if digest != expected.lower():
            raise InvalidValue(
                "pretrained.download",
                f"{file} has the wrong digest",
                got=f"SHA-256 {digest}",
                expected=expected,
                fix=f"Delete {path} and download it again, or check the expected digest",
            )
