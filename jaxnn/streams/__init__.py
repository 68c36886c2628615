"""Data that do not fit into memory: sources of examples, and streams that read from them."""

from jaxnn.streams._arrays import arrays
from jaxnn.streams._arrow import arrow
from jaxnn.streams._block import Block
from jaxnn.streams._images import images
from jaxnn.streams._mix import concatenate, mix
from jaxnn.streams._records import records, write_records
from jaxnn.streams._stream import Stream, stream
from jaxnn.streams._tokens import tokens
from jaxnn.streams.source import Source

__all__ = [
    "Block",
    "Source",
    "Stream",
    "arrays",
    "arrow",
    "concatenate",
    "images",
    "mix",
    "records",
    "stream",
    "tokens",
    "write_records",
]
