"""The other files of a run: configurations, rows, locks, quarantines."""

import pytest

from jaxnn import Caution, InvalidValue
from jaxnn.checks import Explained
from tests.small import NEWEST, seal
from tests.storage.hostile.harm import HARM, THINGS, left_out, replaced, untouched

pytestmark = pytest.mark.slow


def written(name, content):
    return lambda out: (out / name).write_bytes(content)


def led_astray(name):
    """A link instead of a file or a folder, to what is outside."""

    def lead(out):
        victim = out.parent / "victim"
        if (out / name).exists():
            (out / name).rename(victim)
        else:
            victim.mkdir()
        (out / name).symlink_to(victim)

    return lead


def without_rows(count):
    def cut(out):
        lines = (out / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        (out / "metrics.jsonl").write_bytes(b"".join(lines[: len(lines) - count]))

    return cut


def encode_manifest(**fields):
    return lambda out: seal(out / "checkpoints" / NEWEST, **fields)


NOT_OURS = "is not a run directory"
CONFIGS = [
    b"", b"[]", b"5", b"null", b'{"a": NaN}', b'{"a": 1e999}', b'{"a": 1, "a": 2}',
    b'{"a":' * 100_000, b"\xff\xfe", HARM, b'{"a": ' + b"9" * 100_000 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_a_configuration_that_is_a_mess(small, number):
    out = small.copy()
    (out / "config.json").write_bytes(CONFIGS[number])
    untouched(small, out, InvalidValue, NOT_OURS)


@pytest.mark.parametrize("name", ["a pipe", "a folder", "a terabyte", "a pickle"])
def test_another_thing_in_the_place_of_the_configuration(small, name):
    out = small.copy()
    replaced(THINGS[name])(out / "config.json")
    untouched(small, out, InvalidValue, NOT_OURS)


def test_a_quarantine_that_leads_elsewhere(small):
    out = small.copy()
    led_astray("quarantine")(out)
    (out / "checkpoints" / NEWEST / "manifest.json").write_bytes(b"")
    left_out(small, out, "manifest.json")


ROWS = {
    "none": lambda out: (out / "metrics.jsonl").unlink(),
    "one less": without_rows(1),
    "rows that are none": written("metrics.jsonl", b"\xff" * 1000),
    "a pickle": written("metrics.jsonl", HARM * 100),
    "a terabyte": encode_manifest(rows=1 << 40),
    "without end": encode_manifest(rows=10**400),
    "half a row": encode_manifest(rows=10),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_are_not_those_of_the_checkpoint(small, name):
    out = small.copy()
    ROWS[name](out)
    untouched(small, out, Explained, "run directory: ")


LINKS = ("config.json", "metrics.jsonl", ".lock", "checkpoints")
PIPES = (".lock", "metrics.jsonl")


@pytest.mark.parametrize("name", LINKS)
def test_files_that_lead_elsewhere(small, name):
    out = small.copy()
    led_astray(name)(out)
    untouched(small, out, Explained, "run directory: ")


@pytest.mark.parametrize("name", PIPES)
@pytest.mark.parametrize("thing", ["a pipe", "a folder"])
def test_another_thing_in_the_place_of_a_file_of_the_run(small, name, thing):
    out = small.copy()
    replaced(THINGS[thing])(out / name)
    untouched(small, out, Explained, "run directory: ")


def test_an_environment_that_says_nothing_is_another_one(small):
    out = small.copy()
    encode_manifest(environment={})(out)
    with pytest.warns(Caution, match="may not be bit for bit"):
        assert small.restore(out).step == 12
