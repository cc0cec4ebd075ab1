"""The demo's object store: moto's S3 server with its buckets, in memory. Requests are signed with one pair of keys.

AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... python docker/store/serve.py HOST PORT BUCKET...
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

HEALTH = "/health"
_REFUSAL = b"<Error><Code>AccessDenied</Code><Message>not signed with the keys of this store</Message></Error>"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,]+)/(?P<scope>[^,]+/aws4_request),\s*"
    r"SignedHeaders=(?P<headers>[^,]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


class SignedRequests:
    """A WSGI application that passes on requests with a valid signature, version 4, and answers 403 to all others."""

    def __init__(self, application: Callable[..., Iterable[bytes]], key: str, secret: str) -> None:
        self._application = application
        self._key = key
        self._secret = secret
        self.ready = False  # for the health check

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == HEALTH:
            start_response("200 OK" if self.ready else "503 Service Unavailable", [("Content-Type", "text/plain")])
            return []
        if self._is_signed(environ):
            return self._application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "application/xml")])
        return [_REFUSAL]

    def _is_signed(self, environ: Mapping[str, Any]) -> bool:
        path, _, query = str(environ["REQUEST_URI"]).partition("?")
        signature = _signature(environ, dict(parse_qsl(query, keep_blank_values=True)))
        if signature is None or signature.key != self._key:
            return False
        text = "\n".join(["AWS4-HMAC-SHA256", signature.date, signature.scope, signature.covered(environ, path, query)])
        key = b"AWS4" + self._secret.encode()
        for part in (*signature.scope.split("/"), text):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.compare_digest(key.hex().encode(), signature.value.encode())


@dataclass(frozen=True)
class Signature:
    """A request's signature, with what it depends on. headers: the names of those that it covers, joined by ';'."""

    key: str
    scope: str
    headers: str
    value: str
    date: str
    payload: str

    def covered(self, environ: Mapping[str, Any], path: str, query: str) -> str:
        """Return the SHA-256 of what the signature covers: AWS's canonical request."""
        parameters = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != "X-Amz-Signature"]
        pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in parameters)
        lines = [
            environ["REQUEST_METHOD"],
            quote(unquote(path), safe="/~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{_header(environ, name)}" for name in self.headers.split(";")),
            "",
            self.headers,
            self.payload,
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _signature(environ: Mapping[str, Any], parameters: Mapping[str, str]) -> Signature | None:
    """Return the signature in the request's header, or in the query of a presigned URL; None without, or expired."""
    if "X-Amz-Signature" in parameters:
        key, _, scope = parameters.get("X-Amz-Credential", "").partition("/")
        date, headers = parameters.get("X-Amz-Date", ""), parameters.get("X-Amz-SignedHeaders", "")
        if _expired(date, parameters.get("X-Amz-Expires", "")):
            return None
        return Signature(key, scope, headers, parameters["X-Amz-Signature"], date, "UNSIGNED-PAYLOAD")
    match = _AUTHORIZATION.fullmatch(environ.get("HTTP_AUTHORIZATION", ""))
    if match is None:
        return None
    date, payload = (environ.get(f"HTTP_X_AMZ_{name}", "") for name in ("DATE", "CONTENT_SHA256"))
    return Signature(*match.group("key", "scope", "headers", "signature"), date, payload)


def _expired(date: str, seconds: str) -> bool:
    try:
        ends = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) + timedelta(seconds=int(seconds))
    except (ValueError, OverflowError):
        return True
    return datetime.now(UTC) > ends


def _header(environ: Mapping[str, Any], name: str) -> str:
    variable = name.upper().replace("-", "_")
    value = environ.get(variable if variable in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{variable}", "")
    return " ".join(str(value).split())


def main(host: str, port: str, *buckets: str) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for each request
    key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    application = SignedRequests(DomainDispatcherApplication(create_backend_app), key, secret)
    server = make_server(host, int(port), application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    keys = {"aws_access_key_id": key, "aws_secret_access_key": secret, "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=url, **keys)
    for bucket in buckets:
        client.create_bucket(Bucket=bucket)
    application.ready = True
    print(f"the object store is at {url}, with the buckets {', '.join(buckets)}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.shutdown()


if __name__ == "__main__":
    # Before the threads start, which inherit the mask: only sigwait receives the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(*sys.argv[1:])
