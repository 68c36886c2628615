"""A disk that fails: whatever a run asks of it may be refused once, and nothing is lost."""

import resource
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from functools import partial
from itertools import cycle

import pytest

import jaxnn
from jaxnn.storage import shards
from tests import harness
from tests.failpoints import DISK, arm
from tests.harness import KILLED, again, counted, ended, ending, sound, start

pytestmark = pytest.mark.slow

CONFIG = harness.Config(steps=8)

ERRORS = {
    "write": ["ENOSPC", "EIO", "ENOTCONN"],
    "half a write": ["ENOSPC", "EIO"],
    "mkdir": ["ENOSPC", "EROFS", "EIO"],
    "open": ["EROFS", "ENOSPC"],
}
EVERY = ["EIO", "ENOSPC", "EROFS", "ENOTCONN"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns what the run comes to that nothing stops, in this process, which has compiled all."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        harness.keep_pace(None, patch.setattr)
        harness.main(CONFIG, jaxnn.Directory(out, "harness", CONFIG))
    return ended(out, dict(harness.DIGESTS))


@pytest.fixture
def call(command_line, monkeypatch):
    harness.keep_pace(None, monkeypatch.setattr)

    def call(out):
        code, _, errors = command_line(
            harness.Config, harness.main, "--out", str(out), "--no-compile-cache",
            "--steps", str(CONFIG.steps), *again(out),
        )  # fmt: skip
        return code, errors

    return call


@contextmanager
def warned():
    """Yields the warnings, as a command prints them."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield seen


def hits(point, out, call):
    """Returns how often a run comes to a place from its first checkpoint to its third."""
    with pytest.MonkeyPatch.context() as patch:
        words = arm(point, 0, "count", lambda *them: patch.setattr(*them, raising=False))
        assert call(out)[0] == 0
    third = [n for n, said in enumerate(words, 1) if "0000000004-" in said]
    rows = [n for n, said in enumerate(words, 1) if "metrics" in said]
    others = [n for n, said in enumerate(words, 1) if said.endswith("/checkpoints")]
    return [*third, *rows[:2], *others[1:2]]


@pytest.mark.parametrize("name", DISK)
def test_each_call_to_the_disk_fails_once_and_nothing_is_lost(name, tmp_path, call, whole):
    times = hits(DISK[name], tmp_path / "count" / "run", call)
    assert times
    errors = cycle(ERRORS.get(name, EVERY))
    with counted(P9=f"injected failures ({name}), each reported, nothing lost") as tried:
        for number in times:
            out, error = tmp_path / f"{number}" / "run", next(errors)
            with (
                pytest.MonkeyPatch.context() as patch,
                warnings.catch_warnings(record=True) as seen,
            ):
                warnings.simplefilter("always")
                arm(DISK[name], number, error, lambda *them: patch.setattr(*them, raising=False))
                code, said = call(out)
            said += "".join(str(each.message) for each in seen)
            # Of a folder that is there already, no error matters.
            harmless = name == "mkdir" and code == 0
            # A save that is not the last one is tried again.
            continued = code == 0 and "training continues" in said
            ends = code == 6 and "storage: " in said
            assert harmless or continued or ends, (number, error, code, said)
            assert f"fault: {error}" in said
            tried.append(number)
            step = sound(out, whole)
            assert not [path for path in out.rglob(".*") if path.name != ".lock"]
            assert call(out)[0] == 0 and step <= CONFIG.steps
            assert ended(out, dict(harness.DIGESTS)) == whole
            shutil.rmtree(out.parent)


# --- Disks that are really full ----------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    """Returns a small file system, and a function that mounts it anew with other options."""
    place = tmp_path / "disk"
    place.mkdir()
    if not sys.platform.startswith("linux") or not shutil.which("mount"):
        pytest.skip("no file system can be mounted here")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "none", place], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr}")

    def mount(options):
        subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)

    yield place, mount
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.nightly
def test_on_a_disk_that_is_full_nothing_is_lost(disk, reference):
    """However large it is, so that it fills up in the middle of anything."""
    whole, (place, mount) = reference("single"), disk
    beside = place.parent / "beside"
    with counted(P9="disks that were really full, each reported with exit code 6") as tried:
        for kilobytes in range(16, 640, 48):
            out = place / f"{kilobytes}" / "run"
            out.parent.mkdir()
            mount(f"size={kilobytes}k")
            child = start(out, cache=reference.cache, place=beside)
            code, said = child.wait(), child.said
            mount("size=16m")
            if code == 0:
                break
            assert code == 6 and "storage: " in said, (kilobytes, code, said)
            tried.append(kilobytes)
            sound(out, whole)
            assert not [path for path in out.rglob(".*") if path.name != ".lock"]
            assert ending(start(out, cache=reference.cache, place=beside), out) == whole
            shutil.rmtree(out.parent)
    assert len(tried) >= 4 and code == 0


def test_a_disk_that_cannot_be_written_is_left_as_it_is(disk, reference):
    whole, (place, mount) = reference("single"), disk
    beside, out = place.parent / "beside", place / "run"
    fault = "checkpoint named", 3, "kill"
    assert start(out, fault=fault, cache=reference.cache, place=beside).wait() == KILLED
    with counted(P9="disks that could not be written, each reported with exit code 6") as tried:
        mount("ro")
        child = start(out, cache=reference.cache, place=beside)
        assert child.wait() == 6 and "Read-only file system" in child.said, child.said
        tried.append(out)
        mount("rw")
        assert sound(out, whole) > 0
        assert ending(start(out, cache=reference.cache, place=beside), out) == whole


def limit(size):
    """Lets no file grow larger than so many bytes while arrays are written."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    write = shards._write

    def limited(*arguments):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        try:
            return write(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

    shards._write = limited


@pytest.mark.parametrize("size", [100, 500, 1000])
def test_a_file_that_may_not_grow_is_an_error(size, tmp_path, reference):
    whole, out = reference("single"), tmp_path / "run"
    with counted(P9="files that could not grow, each reported with exit code 6") as tried:
        child = start(out, cache=reference.cache, before=partial(limit, size))
        assert child.wait() == 6 and "storage: " in child.said, child.said
        tried.append(size)
        sound(out, whole)
        assert ending(start(out, cache=reference.cache), out) == whole
