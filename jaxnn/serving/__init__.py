"""Serves a trained model over HTTP, with an API for programs and a web page for people.

    python -m jaxnn serve runs/digits

The server validates requests, computes them in micro-batches, and responds with the outputs of
`predict`, or with an error message that contains the fix. The program for single examples compiles
before the first request. Serving requires Starlette and uvicorn, the extra `[serve]`.
"""

from jaxnn.serving._serve import serve

__all__ = ["serve"]
