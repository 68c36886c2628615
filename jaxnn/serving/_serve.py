"""`serve`: binds a socket, compiles the model, runs uvicorn, and shuts down gracefully."""

import asyncio
import contextlib
import errno
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from jaxnn.checks import InvalidValue
from jaxnn.serving.app import application
from jaxnn.serving.describing import inputs
from jaxnn.serving.served import Served, open_model

GRACE = 30  # seconds to complete accepted requests after a signal
LOCALHOST = ("127.0.0.1", "::1", "localhost")
CONNECTIONS = 512  # maximum number of concurrent connections; others receive status 503


def serve(
    path: str | Path, host: str = "127.0.0.1", port: int = 8000, token: str | None = None
) -> None:
    """Serves a model until SIGTERM or Ctrl-C, and completes accepted requests before it returns.

    Args:
      path: a run directory, a directory that contains runs, or a model file.
      host: the address to bind; the default is only reachable from this machine.
      port: the port to bind; 0 selects a free port.
      token: if given, requests must have the header `Authorization: Bearer TOKEN`.

    Raises:
      InvalidValue: if the token is invalid, the port is in use, or there is no model.
    """
    check_token(token)
    with listen(host, port) as listener:
        start = time.perf_counter()
        served = open_model(path)
        served.warm(served.buckets[:1])
        seconds = time.perf_counter() - start
        address = _address(host, listener.getsockname()[1])
        say(served, address, token, seconds, host)
        run(served, listener, token, local=host in LOCALHOST)


class Server(uvicorn.Server):
    """A uvicorn server that completes accepted requests after a signal, and exits with code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Shuts down at SIGTERM and Ctrl-C; a second signal does not wait for open requests."""
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.end)
        yield

    def end(self) -> None:
        """Stops accepting requests; a second call also stops waiting for open ones."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shuts down, and ends the application also if open requests are abandoned."""
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn would cancel the application, and print a traceback
            await self.lifespan.shutdown()


def run(
    served: Served,
    listener: socket.socket,
    token: str | None = None,
    *,
    local: bool = True,
    started: Callable[[Server], None] = lambda server: None,
) -> None:
    """Serves the requests of a socket until a signal, or until the server's `end` is called.

    `started` is called with the server before it runs.
    """
    app = application(served, token, local)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=20,
        timeout_graceful_shutdown=GRACE,
        limit_concurrency=CONNECTIONS,
    )
    server = Server(config)
    started(server)
    asyncio.run(server.serve(sockets=[listener]))


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket.

    Raises:
      InvalidValue: if the address cannot be bound.
    """
    if not 0 <= port < 1 << 16:
        raise InvalidValue("serve", "there is no such port", got=f"port={port}",
                           expected="0 to 65535", fix="Pass --port 8000")  # fmt: skip
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        used = error.errno == errno.EADDRINUSE
        raise InvalidValue(
            "serve",
            f"port {port} is in use" if used else f"{host} port {port} cannot be bound",
            got=str(error),
            expected="an address of this machine, and a port that is free",
            fix=f"Pass --port {port + 1 if used else 8000}, or --port 0 for any that is free",
        ) from None
    return listener


def check_token(token: str | None) -> None:
    """Raises `InvalidValue` if a token cannot be sent in a header."""
    if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
        raise InvalidValue("serve", "the token cannot be sent", got=f"{token!r}",
                           expected="letters, digits and signs of ASCII",
                           fix="Pass, say, the output of: openssl rand -hex 16")  # fmt: skip


def say(served: Served, address: str, token: str | None, seconds: float, host: str) -> None:
    """Prints the address of the server; warns if other machines can reach it without a token."""
    page = f"{address}/#token={token}" if token else f"{address}/"
    print(f"{served.about.name} reads {inputs(served)}; ready in {seconds:.1f} s")
    print(f"Try it at {page} and see {address}/docs for programs. Ctrl-C ends it.", flush=True)
    if token is None and host not in LOCALHOST:
        print("Whoever reaches this machine can ask it: --token TOKEN lets only some.",
              file=sys.stderr)  # fmt: skip


def _address(host: str, port: int) -> str:
    named = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{named}:{port}"
