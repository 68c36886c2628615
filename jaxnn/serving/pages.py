"""The web pages: one to try out the model, and one that documents the API.

They use the colours of reports, and load nothing from other servers.
"""

from importlib import resources
from pathlib import PurePath

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jaxnn.typing import Any

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def files() -> dict[str, bytes]:
    """Returns the files by path; `/` is the page, and `/docs` the documentation."""
    folder = resources.files("jaxnn.serving") / "static"
    content = {each.name: each.read_bytes() for each in folder.iterdir()}
    style = (resources.files("jaxnn.report") / "page.css").read_bytes()
    colours = style.partition(b"\n\n")[0] + b"\n\n"
    content["page.css"] = colours + content["page.css"]
    names = {"page.html": "", "docs.html": "docs"}
    return {f"/{names.get(name, name)}": content[name] for name in sorted(content)}


def routes() -> list[Route]:
    """Returns a route for each file."""
    return [Route(path, _send(path, content)) for path, content in files().items()]


def _send(path: str, content: bytes) -> Any:
    type_ = TYPES[PurePath(path).suffix or ".html"]

    async def send(request: Request) -> Response:
        return Response(content, media_type=type_)

    return send
