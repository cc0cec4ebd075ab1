"""A local HTTP server with the files of a folder, which records its requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class FolderHandler(SimpleHTTPRequestHandler):
    """Serves the files of a folder, with HTML listings, and records requests in the server's `requests`."""

    def log_message(self, *_: Any) -> None:
        self.server.requests.append(f"{self.command} {self.path}")


@contextmanager
def serving(handler: Any) -> Iterator[ThreadingHTTPServer]:
    """Run a server with this handler on a free port, in a thread."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.requests = []
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
    with serving(partial(FolderHandler, directory=str(folder))) as server:
        yield server


def url_of(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


__all__ = ["BaseHTTPRequestHandler", "serving", "serving_folder", "url_of"]
