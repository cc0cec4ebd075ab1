"""Texts of a pipe: the lines of standard input, in batches of what has arrived."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO, TextIO

_CHUNK_BYTES = 65_536  # a pipe's buffer on Linux


def line_batches(stream: TextIO) -> Iterator[list[str]]:
    """Yield the lines of a stream, without their ends, as soon as they have arrived; never an empty batch.

    A batch holds the lines of at most 64 KiB, or one longer line, so memory stays constant however long the stream is.
    Bytes that are not in the stream's encoding become lone surrogates. Lines end with \\n or \\r\\n.
    """
    if isinstance(stream, io.TextIOWrapper):
        encoding = stream.encoding
        yield from ([_text(line, encoding) for line in lines] for lines in _byte_batches(stream.buffer))
    else:  # a stream of strings has no buffer
        yield from ([line.rstrip("\r\n")] for line in stream)


def _text(line: bytes, encoding: str) -> str:
    return line.removesuffix(b"\r").decode(encoding, errors="surrogateescape")


def _byte_batches(stream: BinaryIO) -> Iterator[list[bytes]]:
    """Yield complete lines of bytes: those of one read each, which waits for one byte, not for a full buffer."""
    started = bytearray()
    read = stream.read1  # type: ignore[attr-defined]  # of io.BufferedReader and io.BytesIO
    while chunk := read(_CHUNK_BYTES):
        end = chunk.rfind(b"\n")
        if end < 0:
            started += chunk
            continue
        yield bytes(started + chunk[:end]).split(b"\n")
        started = bytearray(chunk[end + 1 :])
    if started:
        yield [bytes(started)]
