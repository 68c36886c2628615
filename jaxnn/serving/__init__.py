"""A trained model behind HTTP: predictions for programs, and a page for people.

    python -m jaxnn serve runs/digits

Requests are validated, computed in micro-batches by programs that were compiled before the first
one, and answered with what `predict` gives, or with an error that says the fix. Starlette and
uvicorn are the extra `[serve]`.
"""

from jaxnn.serving._serve import serve

__all__ = ["serve"]
