"""A server in a thread, and requests to it as another program sends them."""

import contextlib
import http.client
import json
import threading

from jaxnn.serving import _serve


class Client:
    """Sends requests to a server of this machine.

    `closing` is an `ExitStack` of what must close before the server ends, such as pages that may
    still ask it something.
    """

    def __init__(self, port, token=None):
        self.port, self.token, self.closing = port, token, contextlib.ExitStack()

    def __call__(self, method, path, body=None, headers=None, timeout=60):
        """Returns the status, the headers and the body of an answer, which is decoded if JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes | str):
            body = json.dumps(body)
        if body is not None:
            headers.setdefault("content-type", "application/json")
        if self.token:
            headers.setdefault("authorization", f"Bearer {self.token}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.getheader("content-type", "").startswith("application/json"):
                content = json.loads(content)
            return answer.status, dict(answer.getheaders()), content

    def predict(self, body, **headers):
        """Returns the answer to a prediction."""
        status, _, answer = self("POST", "/predict", body, headers)
        assert status == 200, answer
        return answer


@contextlib.contextmanager
def serving(served, token=None, local=True):
    """Serves a model in a thread, and gives a client of it."""
    servers = []
    with _serve.listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(
            target=_serve.run,
            args=(served, listener, token),
            kwargs={"local": local, "started": servers.append},
        )
        thread.start()
        try:
            with (client := Client(port, token)).closing:
                # Until it listens, a connection waits in the queue of the socket.
                assert client("GET", "/health")[0] == 200
                yield client
        finally:
            while not servers and thread.is_alive():
                pass
            servers[0].end()
            thread.join(60)
            assert not thread.is_alive()
