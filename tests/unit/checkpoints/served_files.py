"""A folder behind a real HTTP server: what the tests of remote models fetch from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class Folder(SimpleHTTPRequestHandler):
    """Gives the files of a folder, and lists them as HTML; keeps what was asked, in the server's `asked`."""

    def log_message(self, *_: Any) -> None:
        self.server.asked.append(f"{self.command} {self.path}")


@contextmanager
def serving(handler: Any) -> Iterator[ThreadingHTTPServer]:
    """A server on a free port, in a thread."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.asked = []
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serving_folder(folder: Path) -> Iterator[ThreadingHTTPServer]:
    with serving(partial(Folder, directory=str(folder))) as server:
        yield server


def address_of(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


__all__ = ["BaseHTTPRequestHandler", "address_of", "serving", "serving_folder"]
