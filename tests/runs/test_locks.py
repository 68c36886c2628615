"""One process at a time writes to a run directory, whatever the file system makes of locks."""

import os
import socket
import time

import pytest

from jaxnn.storage.lock import DirectoryInUse
from jaxnn.storage.opening import open_directory
from tests.forked import context, process
from tests.harness import KILLED, counted, ending, start

NUMBER = 8  # processes that start at once


def compete(out, ready, go, said):
    """Opens a directory when all are ready, and keeps it; or says who has it."""
    ready.release()
    go.wait()
    try:
        with open_directory(out, {"seed": 0}):
            said.put(["won", os.getpid(), None])
            time.sleep(3600)  # until it is killed
    except DirectoryInUse as error:
        said.put(["lost", os.getpid(), str(error)])
    except Exception as error:
        said.put(["failed", os.getpid(), repr(error)])


def competition(out):
    """Lets processes start on a directory at once; asserts that one wins; returns its process."""
    ready, go, said = context().Semaphore(0), context().Event(), context().SimpleQueue()
    all_of_them = [process(compete, out, ready, go, said) for _ in range(NUMBER)]
    for _ in all_of_them:
        assert ready.acquire(timeout=120)
    go.set()
    answers = [said.get() for _ in all_of_them]
    (winner,) = [number for word, number, _ in answers if word == "won"]
    assert not [answer for answer in answers if answer[0] == "failed"]
    losers = [words for word, _, words in answers if word == "lost"]
    assert len(losers) == NUMBER - 1
    for words in losers:
        assert "another process is writing there" in words
        assert f"process {winner} on {socket.gethostname()}" in words
        assert "Wait for that run to end, or choose another directory (--out)" in words
    for each in all_of_them:
        if each.pid != winner:
            each.join(120)
    return next(each for each in all_of_them if each.pid == winner)


def trials(out, count):
    """Eight start, one wins and is killed, eight start again: the next one wins."""
    with counted(
        P7=f"simultaneous starts of {NUMBER} processes, each with exactly one winner"
    ) as tried:
        for _ in range(count):
            holder = competition(out)
            tried.append(holder)
            holder.kill()
            holder.join()
            with open_directory(out, {"seed": 0}):  # the lock is free as soon as its holder is dead
                pass


def test_of_eight_that_start_at_once_one_wins(tmp_path):
    trials(tmp_path / "run", 1)


@pytest.mark.nightly
def test_of_eight_that_start_at_once_one_wins_again_and_again(tmp_path):
    trials(tmp_path / "run", 15)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_at_once(tmp_path, reference):
    whole, out = reference("single"), tmp_path / "run"
    with counted(
        P7="killed lock holders, after each of which the next process started at once"
    ) as tried:
        for number in range(2):
            child = start(out, fault=("checkpoint named", 2, "kill"), cache=reference.cache)
            assert child.wait() == KILLED, child.said
            tried.append(number)
        assert ending(start(out, cache=reference.cache), out) == whole


def without_locks():
    """Makes locks ineffective, as on some network drives."""
    import fcntl

    fcntl.flock = lambda *_: None


@pytest.mark.slow
@pytest.mark.parametrize("at", ["after a row", "copied", "checkpoint named", "reading back"])
def test_where_locks_do_nothing_the_second_wins_and_the_first_harms_nothing(
    at, tmp_path, reference
):
    whole, out = reference("single"), tmp_path / "run"

    def started(name, point, number):
        """Returns a run that waits at a place, and the file that says so."""
        waits = tmp_path / f"{name} waits"
        fault = point, number, f"wait {waits}"
        child = start(
            out, fault=fault, cache=reference.cache, before=without_locks, place=tmp_path / name
        )
        while not waits.exists():
            assert child.process.is_alive(), child.said
            time.sleep(0.02)
        return child, waits

    with counted(
        P7="second writers without working locks, after each of which the first stopped"
    ) as tried:
        first, first_waits = started("first", at, 3)
        second, second_waits = started("second", "checkpoint named", 1)
        first_waits.unlink()
        assert first.wait() == 5, first.said
        tried.append(at)
        assert "another process has taken the directory" in first.said
        assert f"process {second.process.pid} on {socket.gethostname()}" in first.said
        second_waits.unlink()
        assert ending(second, out) == whole
