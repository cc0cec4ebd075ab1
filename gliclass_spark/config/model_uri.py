"""Model URIs: their forms, parsed and validated."""

from __future__ import annotations

import re

from gliclass_spark.config.paths import SCHEME
from gliclass_spark.redaction import has_credentials

REGISTERED = "models:/"
# Aliases of a registered model's versions.
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
# The forms of a model URI, for the help of commands.
MODEL_URI_FORMS = (
    '"embedded", a folder, a hub id (org/name@revision), a folder of an object store (s3://bucket/folder), or '
    "models:/NAME@champion"
)
MODEL_NAME = re.compile(r"[\w.-]+", re.ASCII)
_REGISTERED_MODEL = re.compile(rf"{REGISTERED}({MODEL_NAME.pattern})(?:@([\w-]+)|/([0-9]+))", re.ASCII)
_HUB_MODEL = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?:@([\w.-]+(?:/[\w.-]+)*))?", re.ASCII)


def registered_model(uri: str) -> tuple[str, str]:
    """Return name, and version or alias, of models:/NAME/3 or models:/NAME@champion. Raises ValueError otherwise."""
    match = _REGISTERED_MODEL.fullmatch(uri)
    if match is None:
        raise ValueError(f"{uri!r} is no registered model; write models:/NAME@champion or models:/NAME/3")
    name, alias, number = match.groups()
    return name, alias or str(int(number))


def hub_model(uri: str) -> tuple[str, str | None]:
    """Return repository, and branch, tag or commit if there is one, of org/name@revision. Raises ValueError."""
    match = _HUB_MODEL.fullmatch(uri)
    if match is None or {".", ".."} & set(uri.replace("@", "/").split("/")):
        raise ValueError(f"{uri!r} is no hub id; write org/name or org/name@revision")
    return match[1], match[2]


def stored_model(uri: str) -> str:
    """Return the URI of a folder in an object store, normalized to SCHEME://HOST/PATH without a slash at its end.

    Raises ValueError if it is invalid, or may hold a secret, which the message does not repeat.
    """
    if (scheme := SCHEME.match(uri)) is None:
        raise ValueError(f"{uri!r} has no scheme; write the folder of a model as s3://bucket/folder")
    if has_credentials(scheme[1], uri[scheme.end() :]):
        host = uri.rpartition("@")[2].partition("?")[0]
        raise ValueError(
            f"{scheme[1]}://***@{host} holds credentials, which would appear in logs and tables; remove them from the "
            "URI, and give them to the store's driver by its environment variables"
        )
    if "?" in uri:
        raise ValueError(
            f"{uri.partition('?')[0]}?*** has a query, which may hold a token; remove it from the URI, and give its "
            "values to the store's driver by its environment variables"
        )
    if not uri.isprintable() or uri != uri.strip():
        raise ValueError(f"{uri!r} holds spaces at its ends or control characters; correct it")
    if "::" in uri:
        raise ValueError(f"{uri!r} chains several stores; give the folder of the model itself")
    if ".." in re.split(r"[/\\]", uri):
        raise ValueError(f"{uri!r} leads out of its own folder; write it without '..'")
    rest = uri[scheme.end() :]
    return f"{scheme[1]}:/{rest if rest.startswith('/') else '//' + rest}".rstrip("/")
