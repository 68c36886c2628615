"""Middleware that checks the token and the host of each request, and adds security headers.

A local server only accepts requests for the names of this machine. Otherwise, a page of another
site could reach the server through a domain of its own (DNS rebinding).
"""

import hmac

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    """ASGI middleware that rejects requests with a wrong host or token.

    Args:
      app: the application that handles accepted requests.
      token: the bearer token that requests must have, or `None`.
      local: whether to accept only requests whose `Host` header is a name of this machine.
      open_paths: the paths that require no token. The page is one of them: it contains nothing
        about the model, which its script requests with the token.
    """

    def __init__(self, app: ASGIApp, token: str | None, local: bool, open_paths: set[str]):
        self.app, self.token, self.local, self.open = app, token, local, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request to the application, or responds with an error."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        started = False

        async def guarded(message: Message) -> None:
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
                # An unexpected error is a bug: it is reported, and the server continues.
                refused = Refused(
                    500, "the server has failed", got=f"{type(error).__name__}: {error}"[:300],
                    expected="an answer", fix="Report it, with the request", where="serve",
                )  # fmt: skip
        response = JSONResponse({"error": str(refused)}, refused.status, refused.headers)
        await response(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Refused | None:
        """Returns the error for a rejected request, or `None` if it is accepted."""
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
