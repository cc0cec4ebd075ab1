"""Model URIs: the forms that a model address can have, parsed and checked."""

from __future__ import annotations

import re

from gliclass_spark.config.paths import SCHEME

REGISTERED = "models:/"
# The aliases of a registered model's versions.
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
# What a model can be, in the words of every command.
MODEL_URI_FORMS = (
    '"embedded", a folder, a hub id (org/name@revision), a folder of a store (s3://bucket/folder), or '
    "models:/NAME@champion"
)
MODEL_NAME = re.compile(r"[\w.-]+", re.ASCII)
_REGISTERED_MODEL = re.compile(rf"{REGISTERED}({MODEL_NAME.pattern})(?:@([\w-]+)|/([0-9]+))", re.ASCII)
_HUB_MODEL = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?:@([\w.-]+(?:/[\w.-]+)*))?", re.ASCII)
# What stands before the @ of these is a container, or a user who still has to prove it.
_NAMED_BEFORE_HOST = {"abfs", "abfss", "ftp", "hdfs", "sftp", "smb", "ssh", "wasb", "wasbs", "webhdfs"}


def registered_model(address: str) -> tuple[str, str]:
    """Name, and version or alias, of models:/NAME/3 or models:/NAME@champion. Raises ValueError for anything else."""
    found = _REGISTERED_MODEL.fullmatch(address)
    if found is None:
        raise ValueError(f"{address!r} is no registered model; write models:/NAME@champion or models:/NAME/3")
    name, alias, number = found.groups()
    return name, alias or str(int(number))


def hub_model(address: str) -> tuple[str, str | None]:
    """The repository, and the branch, tag or commit if one is named, of org/name@revision. Raises ValueError."""
    found = _HUB_MODEL.fullmatch(address)
    if found is None or {".", ".."} & set(address.replace("@", "/").split("/")):
        raise ValueError(f"{address!r} is no hub id; write org/name or org/name@revision")
    return found[1], found[2]


def stored_model(address: str) -> str:
    """The address of a model's folder in a store, as SCHEME://HOST/PATH without a slash at its end.

    Raises ValueError for one that can't be one, or that holds what may be a secret, which is not repeated.
    """
    if (scheme := SCHEME.match(address)) is None:
        raise ValueError(f"{address!r} has no scheme; write the folder of a model as s3://bucket/folder")
    if _holds_credentials(scheme[1], address[scheme.end() :]):
        bare = address.rpartition("@")[2].partition("?")[0]
        raise ValueError(
            f"{scheme[1]}://***@{bare} holds credentials, which would stand in logs and tables; take them out of the "
            "address, and give them to the store's driver by its environment variables"
        )
    if "?" in address:
        raise ValueError(
            f"{address.partition('?')[0]}?*** has a query, which may hold a token; take it out of the address, and "
            "give what it says to the store's driver by its environment variables"
        )
    if not address.isprintable() or address != address.strip():
        raise ValueError(f"{address!r} holds spaces at its ends or control characters; correct it")
    if "::" in address:
        raise ValueError(f"{address!r} chains several stores; give the folder of the model itself")
    if ".." in re.split(r"[/\\]", address):
        raise ValueError(f"{address!r} leads out of its own folder; write it without '..'")
    rest = address[scheme.end() :]
    return f"{scheme[1]}:/{rest if rest.startswith('/') else '//' + rest}".rstrip("/")


def _holds_credentials(scheme: str, rest: str) -> bool:
    """rest: what stands behind SCHEME:/, with the second slash if there is one."""
    if scheme.lower() == "file":
        return False
    host, _, path = rest.removeprefix("/").partition("/")
    named, at, _ = host.rpartition("@")
    if at:
        return ":" in named or scheme.lower() not in _NAMED_BEFORE_HOST
    _, colon, port = host.partition(":")  # a secret may hold slashes, and then the host seems to end before its @
    return bool(colon) and not port.isdigit() and "@" in path
