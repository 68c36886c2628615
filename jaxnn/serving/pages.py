"""The pages for people: one to try the model on, one that documents the paths.

Their colours are those of reports. They are files of this server and ask nothing of another one.
"""

from importlib import resources
from pathlib import PurePath

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jaxnn.typing import Any

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def files() -> dict[str, bytes]:
    """Returns the files by their paths: `/` is the page, `/docs` the description."""
    folder = resources.files("jaxnn.serving") / "static"
    content = {each.name: each.read_bytes() for each in folder.iterdir()}
    style = (resources.files("jaxnn.report") / "page.css").read_bytes()
    colours = style.partition(b"\n\n")[0] + b"\n\n"
    content["page.css"] = colours + content["page.css"]
    names = {"page.html": "", "docs.html": "docs"}
    return {f"/{names.get(name, name)}": content[name] for name in sorted(content)}


def routes() -> list[Route]:
    """Returns the paths of the files."""
    return [Route(path, _send(path, content)) for path, content in files().items()]


def _send(path: str, content: bytes) -> Any:
    type_ = TYPES[PurePath(path).suffix or ".html"]

    async def send(request: Request) -> Response:
        return Response(content, media_type=type_)

    return send
