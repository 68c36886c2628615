"""The pages for people: one to try the model on, one that documents the paths."""

from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jaxnn.serving.served import Served
from jaxnn.typing import Any

_FILES = {
    "/": ("page.html", "text/html"),
    "/docs": ("docs.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/docs.js": ("docs.js", "text/javascript"),
}


def routes(served: Served) -> list[Route]:
    """Returns the paths of the pages."""
    return [Route(path, _file(*file)) for path, file in _FILES.items()]


def _file(name: str, type_: str) -> Any:
    content = (resources.files("jaxnn.serving") / name).read_bytes()

    async def send(request: Request) -> Response:
        return Response(content, media_type=type_)

    return send
