"""Load: fifty clients for thirty seconds lose nothing; run by hand on a quiet machine.

Each client draws: it sends five requests a second, as fast as the page does when a hand moves.
"""

import http.client
import json
import statistics
import threading
import time

import pytest

from tests.serving.test_command import Client, process, re

IMAGE = json.dumps({"inputs": [[0] * 8] * 8})
SECONDS, EVERY = 30, 0.2


def draw(port, seconds, times, wrong):
    """Sends a request every 0.2 s over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    until = time.perf_counter() + seconds
    while (start := time.perf_counter()) < until:
        connection.request("POST", "/predict", IMAGE, {"content-type": "application/json"})
        answer = connection.getresponse()
        content = json.loads(answer.read())
        times.append(time.perf_counter() - start)
        if answer.status != 200 or len(content["outputs"]) != 1:
            wrong.append(content)
        time.sleep(max(0, start + EVERY - time.perf_counter()))
    connection.close()


def load(port, clients, seconds):
    times, wrong = [], []
    threads = [
        threading.Thread(target=draw, args=(port, seconds, times, wrong)) for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
        time.sleep(EVERY / clients)  # hands do not move in step
    for thread in threads:
        thread.join()
    return times, wrong


@pytest.mark.benchmark
def test_fifty_clients_lose_nothing_and_wait_little(digits_run):
    with process(digits_run, "--port", 0) as (_, said):
        seconds = float(re.search(r"ready in ([\d.]+) s", said[0])[1])
        port = int(re.search(r":(\d+)/", said[1])[1])
        alone, wrong = load(port, 1, 5)
        assert wrong == []
        times, wrong = load(port, 50, SECONDS)
        one, many = statistics.median(alone), statistics.median(times)
        print(f"ready in {seconds} s; {len(times)} answers; {1e3 * one:.1f} ms alone,"
              f" {1e3 * many:.1f} ms of 50 clients")  # fmt: skip
        assert wrong == [] and len(times) > 0.5 * 50 * SECONDS / EVERY
        assert Client(port)("GET", "/health")[0] == 200
        assert many <= 3 * one and seconds <= 2


@pytest.mark.slow
def test_many_clients_lose_nothing(digits_run):
    with process(digits_run, "--port", 0) as (_, said):
        port = int(re.search(r":(\d+)/", said[1])[1])
        times, wrong = load(port, 50, 3)
        assert wrong == [] and len(times) >= 50
