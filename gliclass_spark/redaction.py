"""Removal of secrets from texts: credentials and signatures in URIs."""

from __future__ import annotations

import re

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(/+)([^\s\"'<>`]+)")
# Schemes where the part before the @ is a container or a user name, not a secret.
_USER_SCHEMES = {"abfs", "abfss", "ftp", "hdfs", "sftp", "smb", "ssh", "wasb", "wasbs", "webhdfs"}
_QUERY = re.compile(r"\?[^\s\"'<>`]*=[^\s\"'<>`]*?(?=[,.;)]*(?:[\s\"'<>`]|$))")  # without a sentence's full stop
_PARAMETER = re.compile(
    r"(\b(?:x-amz-(?:signature|credential|security-token)|sig|signature|pwd|passwd)|(?:access|account|api|secret)[_.-]?key|"
    r"key[_.-]?id|password|secret|token)"
    r"=(?!\*\*\*)[^\s&;,\"'<>`]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer|basic) +[A-Za-z0-9._~+/=-]{12,}", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Return a text without what may be a secret in it, for messages, logs and pages.

    `***` replaces user and password in a URI, its query, and the value of a parameter such as `sig` or `password`.
    """
    text = _URI.sub(lambda uri: _without_credentials(uri[1], uri[2], uri[3]), text)
    return _BEARER.sub(r"\1 ***", _PARAMETER.sub(r"\1=***", text))


def has_credentials(scheme: str, rest: str) -> bool:
    """Return whether the URI SCHEME:/REST has a password, or a user where none is expected. REST may begin with /."""
    if scheme.lower() == "file":
        return False
    host, _, path = rest.removeprefix("/").partition("/")
    user, at, _ = host.rpartition("@")
    if at:
        return ":" in user or scheme.lower() not in _USER_SCHEMES
    _, colon, port = host.partition(":")  # a secret may hold slashes, so that the host seems to end before its @
    return bool(colon) and not port.isdigit() and "@" in path


def _without_credentials(scheme: str, slashes: str, rest: str) -> str:
    rest = _QUERY.sub("?***", rest)
    user, _, host_and_path = rest.rpartition("@")
    # With one slash, the part before an @ is a name: models:/NAME@champion.
    if has_credentials(scheme, slashes[1:] + rest) and (len(slashes) > 1 or ":" in user):
        rest = f"***@{host_and_path}"
    return f"{scheme}:{slashes}{rest}"
