"""Reads the bodies of requests with limits on size and time, and parses them as strict JSON.

Malicious bodies are rejected here: too many bytes, deeply nested lists, numbers that are not
finite, or compressed content.
"""

import asyncio
from typing import Any

from starlette.requests import ClientDisconnect, Request

from jaxnn.serving.refusals import Refused, busy
from jaxnn.storage import json_files

LARGEST = 4 << 20  # maximum size of a body in bytes
ALL = 64 << 20  # maximum size of all bodies that are being read, in bytes
SECONDS = 10.0  # the time limit for reading a body

_held = 0


async def read(request: Request, types: tuple[str, ...], seconds: float | None = None) -> bytes:
    """Reads the body of a request, whose content type must be one of `types`.

    Raises:
      Refused: if the body is too large, too slow or compressed, or has another type.
    """
    global _held
    seconds = SECONDS if seconds is None else seconds
    type_ = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if type_ not in types:
        raise Refused(
            415,
            "the body has another type",
            got=f"Content-Type {type_!r}",
            expected=" or ".join(types),
            fix=f"Send the header Content-Type: {types[0]}",
        )
    coding = request.headers.get("content-encoding", "identity").lower()
    if coding != "identity":
        raise Refused(
            415,
            "the body is compressed",
            got=f"Content-Encoding {coding!r}",
            expected="a body as it is",
            fix="Send it without Content-Encoding",
        )
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > LARGEST:
        raise _too_large(f"{int(declared):,} bytes")
    content = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                content += part
                _held += len(part)
                if len(content) > LARGEST:
                    raise _too_large(f"more than {LARGEST:,} bytes")
                if _held > ALL:
                    raise busy(f"{_held:,} bytes of bodies", f"at most {ALL:,}")
    except TimeoutError:
        raise Refused(
            408,
            "the body did not arrive in time",
            got=f"{len(content):,} bytes in {seconds:g} s",
            expected=f"all of it within {seconds:g} s",
            fix="Send it again, or fewer examples at a time",
        ) from None
    except ClientDisconnect:
        raise Refused(
            400, "the body was cut off", got=f"{len(content):,} bytes", expected="all of it",
            fix="Send it again",
        ) from None  # fmt: skip
    finally:
        _held -= len(content)
    return bytes(content)


def parse(content: bytes) -> dict[str, Any]:
    """Parses a body as a JSON object.

    Raises:
      Refused: if the body is not a JSON object, or has numbers that are not finite.
    """
    fix = 'Send an object, such as {"inputs": [...]}; see /docs'
    try:
        value = json_files.decode(content)
    except ValueError as error:
        raise Refused(
            400, "the body is not JSON", got=str(error)[:200], expected="JSON in UTF-8", fix=fix
        ) from None
    if not isinstance(value, dict):
        raise Refused(
            422, "the body is not an object", got=f"a {type(value).__name__}",
            expected="a JSON object", fix=fix,
        )  # fmt: skip
    return value


def fields(body: dict[str, Any], known: tuple[str, ...], one_of: tuple[str, ...]) -> str:
    """Returns the field in `one_of` that a body has; all other fields must be in `known`.

    Raises:
      Refused: if the body has no or several fields in `one_of`, or has unknown fields.
    """
    named = [name for name in one_of if name in body]
    others = [name for name in body if name not in (*known, *one_of)]
    if len(named) != 1 or others:
        raise Refused(
            422,
            "the body has other fields",
            got=", ".join(repr(name[:40]) for name in list(body)[:8]) or "none",
            expected=f"one of {', '.join(one_of)}" + f"; also {', '.join(known)}" * bool(known),
            fix=f'Send {{"{one_of[0]}": [...]}}; see /docs',
        )
    return named[0]


def _too_large(got: str) -> Refused:
    return Refused(
        413,
        "the body is too large",
        got=got,
        expected=f"at most {LARGEST:,} bytes",
        fix="Send fewer examples at a time",
    )
