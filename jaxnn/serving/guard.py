"""What stands before all paths: the token, the host by which the server is called, the headers.

A page of another site must not reach a server on this machine under a name of its own (DNS
rebinding): a server for this machine answers to this machine's names only.
"""

import hmac
import json
from typing import Any

from jaxnn.serving.refusals import Refused

LOCAL = ("localhost", "127.0.0.1", "[::1]")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Guard:
    """An ASGI application before another one.

    Args:
      app: what is asked if nothing speaks against it.
      token: what requests must bear, if anything.
      local: whether the server is for this machine alone.
      open_paths: those that need no token. The page itself says nothing of the model: its script
        asks for that with the token.
    """

    def __init__(self, app: Any, token: str | None, local: bool, open_paths: set[str]):
        self.app, self.token, self.local, self.open = app, token, local, open_paths

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers a request, or has the application answer it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        started = False

        async def guarded(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        refused = self._refusal(scope)
        if refused is None:
            try:
                return await self.app(scope, receive, guarded)
            except Exception as error:
                if started:
                    raise
                # What has no answer of its own is a defect: it is said, and the server lives.
                refused = Refused(
                    500, "the server has failed", got=f"{type(error).__name__}: {error}"[:300],
                    expected="an answer", fix="Report it, with the request", where="serve",
                )  # fmt: skip
        content = json.dumps({"error": str(refused)}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(content))}
        start = [(k.lower().encode(), v.encode()) for k, v in (headers | refused.headers).items()]
        await guarded({"type": "http.response.start", "status": refused.status, "headers": start})
        await send({"type": "http.response.body", "body": content})

    def _refusal(self, scope: Any) -> Refused | None:
        """Returns why a request is not answered, if it is not."""
        headers = {name.decode("latin-1"): x.decode("latin-1") for name, x in scope["headers"]}
        host = headers.get("host", "")
        if self.local and (host if host.endswith("]") else host.rsplit(":", 1)[0]) not in LOCAL:
            return Refused(
                421, "the server is for this machine alone", got=f"Host {host[:80]!r}",
                expected=f"one of {', '.join(LOCAL)}",
                fix="Call it by that name, or start it with --host 0.0.0.0", where="serve",
            )  # fmt: skip
        if self.token is None or scope["path"] in self.open:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1"), self.token.encode())
        if scheme.lower() == "bearer" and same:
            return None
        return Refused(
            401, "the request has no token, or another one",
            got="a header Authorization" if scheme else "no header Authorization",
            expected="the token that the server was started with",
            fix="Send the header Authorization: Bearer TOKEN", where="serve",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip


_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
