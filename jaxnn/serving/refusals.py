"""Error responses: an HTTP status, and a message that contains the fix."""

from jaxnn.checks import Explained


class Refused(Explained):
    """A request is rejected with an error response.

    Attributes:
      status: the HTTP status, such as 400 for a malformed body, 401 for a missing token, 413 for a
        body that is too large, 415 for a wrong type, 422 for invalid content, or 503 if busy.
      headers: additional headers of the response.
    """

    def __init__(
        self,
        status: int,
        wrong: str,
        *,
        got: str,
        expected: str,
        fix: str,
        where: str = "predict",
        headers: dict[str, str] | None = None,
    ):
        super().__init__(where, wrong, got=got, expected=expected, fix=fix)
        self.status, self.headers = status, headers or {}


def busy(got: str, expected: str) -> Refused:
    """Returns the error for a request that does not fit into the queue."""
    return Refused(
        503,
        "the server has more to do than it can queue",
        got=got,
        expected=expected,
        fix="Try again after the seconds of the header Retry-After",
        headers={"Retry-After": "1"},
    )
