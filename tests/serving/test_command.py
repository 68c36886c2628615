"""`python -m jaxnn serve`: from a shell, to its end by a signal."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import jaxnn
from jaxnn import __main__ as command
from jaxnn.checks import InvalidValue
from jaxnn.serving import _serve
from tests.serving.clients import Client

ROOT = Path(jaxnn.__file__).parents[1]
IMAGE = [[0] * 8] * 8


@contextlib.contextmanager
def process(*arguments):
    """Starts a server, and gives the process and what it prints until it is ready."""
    line = [sys.executable, "-m", "jaxnn", "serve", *map(str, arguments)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            yield server, [server.stdout.readline() for _ in range(2)]
        finally:
            server.kill()


def test_a_port_in_use_is_an_error_before_anything_is_loaded(capsys, monkeypatch):
    monkeypatch.setattr("jaxnn.serving.served.open_model", pytest.fail)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert command.main(["serve", "runs/none", "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert f"port {port} is in use" in error and f"--port {port + 1}" in error


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        (["runs/none", "--port", "0"], "runs/none"),
        (["runs/none", "--port", "70000"], "Pass --port 8000"),
        (["runs/none", "--port", "0", "--token", "two\nlines"], "openssl rand"),
        (["runs/none", "--port", "0", "--host", "192.0.2.1"], "Pass --port 8000"),
    ],
    ids=["no_run", "no_port", "token", "host"],
)
def test_bad_input_is_an_error_with_the_fix(options, fix, capsys):
    assert command.main(["serve", *options]) == 2
    assert fix in capsys.readouterr().err


def test_a_missing_package_is_named(capsys, monkeypatch):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert command.main(["serve", "runs/none"]) == 2
    assert "pip install 'jaxnn-toolkit[serve]'" in capsys.readouterr().err


def test_a_token_must_be_sendable():
    for token in ("", " ", "\u00e9", "a\r\nb"):
        with pytest.raises(InvalidValue, match="cannot be sent"):
            _serve.check_token(token)
    _serve.check_token("b5f0-A_.~+/=")


@pytest.mark.slow
def test_sigterm_finishes_what_was_accepted(digits_run):
    with process(digits_run, "--port", 0) as (server, said):
        client = Client(int(re.search(r"http://127\.0\.0\.1:(\d+)/", said[1])[1]))
        assert "reads uint8[8, 8]" in said[0]
        many = {"inputs": [IMAGE] * 400}
        with ThreadPoolExecutor(8) as threads:
            answers = [threads.submit(client, "POST", "/predict", many) for _ in range(24)]
            while not any(each.done() for each in answers):
                time.sleep(0.001)
            server.send_signal(signal.SIGTERM)
            outcomes = []
            for each in answers:
                try:
                    outcomes.append(each.result()[0])
                except OSError:  # it came after the signal, and was not accepted
                    outcomes.append(None)
        assert server.wait(60) == 0
        # Of eight at a time, those that were sent before the signal are answered, and whole.
        assert outcomes.count(200) >= 2 and set(outcomes) <= {200, None}
        assert server.stderr.read() == ""


@pytest.mark.slow
def test_ctrl_c_ends_it_and_frees_the_port(digits_run):
    with process(digits_run, "--port", 0) as (server, said):
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", said[1])[1])
        assert Client(port)("GET", "/health")[0] == 200
        server.send_signal(signal.SIGINT)
        server.send_signal(signal.SIGTERM)  # a second signal, as `timeout` sends one
        assert server.wait(60) == 0
        assert server.stderr.read() == ""
    socket.create_server(("127.0.0.1", port)).close()
