"""The HTTP routes of the server: predictions, the description of the model, and the pages.

An invalid request receives a 4xx status and an error message that contains the fix.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from jaxnn.checks import Explained, Invalid
from jaxnn.serving import answers, bodies, describing, drawing, pages, reading, text
from jaxnn.serving.batching import Batcher
from jaxnn.serving.guard import Guard
from jaxnn.serving.layers import layers_of
from jaxnn.serving.refusals import Refused
from jaxnn.serving.served import Served

SECONDS = 30.0  # the time limit of a prediction
JSON, PNG = "application/json", "image/png"
_FIELDS = ("inputs", "rows", "images", "strokes")


class Service:
    """The request handlers for one model."""

    def __init__(self, served: Served, *, protected: bool):
        self.served, self.protected = served, protected
        self.seconds = SECONDS
        self.turns = asyncio.Semaphore(text.AT_ONCE)
        self.described = describing.model(served)
        self.batcher = Batcher(served.predict, served.buckets, prepare=self._prepare)

    def _prepare(self, bucket: int) -> None:
        self.served.predict(self.served.zeros(bucket))

    async def predict(self, request: Request) -> Response:
        """Responds with the outputs for the examples in the request."""
        content = await bodies.read(request, (JSON, PNG))
        if request.headers["content-type"].startswith(PNG):
            inputs, more = reading.image_of(self.served, content), {}
        else:
            body = bodies.parse(content)
            inputs, more = self._inputs(body)
        outputs = await self._outputs(inputs)
        answer = answers.answer(self.served, outputs)
        if more.pop("layers", False):
            shown = await asyncio.to_thread(layers_of, self.served, inputs)
            answer |= {"layers": shown}
        return JSONResponse(answer | more)

    def _inputs(self, body: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Returns the input arrays in a body, and additional fields of the response."""
        served = self.served
        field = bodies.fields(body, ("layers",), _FIELDS)
        value, wants_layers = body[field], body.get("layers", False)
        more: dict[str, Any] = {}
        if field == "strokes":
            if served.framing is None:
                raise Refused(
                    422, "the model reads no drawings", got="strokes",
                    expected=describing.inputs(served), fix="See /docs",
                )  # fmt: skip
            image = drawing.drawn(served.framing, value)
            inputs = drawing.rounded(image, served.inputs.dtype)[None]
            more["seen"] = inputs[0].tolist()
        elif field == "images":
            inputs = reading.images_of(served, value)
        elif field == "rows":
            inputs = reading.rows_of(served, value)
        else:
            inputs = reading.inputs_of(served, value)
        if wants_layers is True and served.layers is not None:
            more["layers"] = True
        return inputs, more

    async def _outputs(self, inputs: Any) -> Any:
        try:
            async with asyncio.timeout(self.seconds):
                return await self.batcher(inputs)
        except TimeoutError:
            raise Refused(
                503, "the prediction took too long", got=f"{self.seconds:g} s",
                expected="an answer within them", fix="Send fewer examples at a time",
                headers={"Retry-After": "1"},
            ) from None  # fmt: skip

    async def generate(self, request: Request) -> Response:
        """Streams the continuation of a prompt as server-sent events."""
        body = bodies.parse(await bodies.read(request, (JSON,)))
        bodies.fields(body, text.FIELDS, ("prompt",))
        return StreamingResponse(
            text.events(self.served, body, self.turns), media_type="text/event-stream"
        )

    async def health(self, request: Request) -> Response:
        """Reports that the server is ready; it only runs after the first programs are compiled."""
        return JSONResponse({"status": "ok"})

    async def model(self, request: Request) -> Response:
        """Responds with the description of the model."""
        return JSONResponse(self.described)

    async def openapi(self, request: Request) -> Response:
        """Responds with the OpenAPI description of all routes."""
        return JSONResponse(describing.openapi(self.served, self.protected))


def application(served: Served, token: str | None = None, local: bool = True) -> ASGIApp:
    """Returns the ASGI application that serves a model.

    Args:
      served: the model to serve.
      token: the bearer token that requests must have, or `None`.
      local: whether to accept only requests whose `Host` header is a name of this machine.
    """
    service = Service(served, protected=token is not None)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.batcher.start()
        yield
        await service.batcher.stop()

    routes = [
        Route("/predict", service.predict, methods=["POST"]),
        *([Route("/generate", service.generate, methods=["POST"])] if served.writes else []),
        Route("/health", service.health),
        Route("/model", service.model),
        Route("/openapi.json", service.openapi),
        *pages.routes(),
    ]
    errors: Any = {HTTPException: _http, Explained: _explained}
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=errors)
    return Guard(app, token, local, open_paths={*pages.files(), "/health"})


def explained(error: Explained) -> tuple[int, str, dict[str, str]]:
    """Returns the status, message and headers of the response to an error."""
    if isinstance(error, Refused):
        return error.status, str(error), error.headers
    return 422 if isinstance(error, Invalid) else 500, str(error), {}


async def _explained(request: Request, error: Explained) -> Response:
    status, said, headers = explained(error)
    return JSONResponse({"error": said}, status, headers)


async def _http(request: Request, error: HTTPException) -> Response:
    paths = "POST /predict and /generate, GET /health, /model, /openapi.json, /docs and /"
    what = {404: "there is no such path", 405: "the path takes another method"}
    wrong = what.get(error.status_code, str(error.detail))
    refused = Refused(
        error.status_code, wrong, got=f"{request.method} {request.url.path[:80]}",
        expected=paths, fix="See /docs", where="serve",
    )  # fmt: skip
    return JSONResponse({"error": str(refused)}, error.status_code, error.headers)
