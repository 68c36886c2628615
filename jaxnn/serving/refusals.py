"""What a server answers instead of a prediction: a status, and an error with the fix."""

from jaxnn.checks import Explained


class Refused(Explained):
    """A request is answered with an error.

    Attributes:
      status: of HTTP: 400 what cannot be read, 401 no token, 413 too large, 415 another type,
        422 what can be read but not be predicted, 503 too busy.
      headers: that go with it.
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
    """Returns what is said to a request for which there is no room now."""
    return Refused(
        503,
        "the server has more to do than it can queue",
        got=got,
        expected=expected,
        fix="Try again after the seconds of the header Retry-After",
        headers={"Retry-After": "1"},
    )
