"""Real documents with nothing to download: what the Python packages installed here say of themselves."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import distributions

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("package", "version", "description")),
        ("topics", pa.list_(pa.string())),
    ]
)


# Of a description. Some are books, and two cores would read them all for six minutes.
_MAX_CHARS = 4000


@dataclass(frozen=True)
class PackageDocument:
    """A package's summary and how its README begins, with its authors' own classification (trove topics) beside it."""

    package: str
    version: str
    description: str
    topics: list[str]


def installed_packages() -> list[PackageDocument]:
    """One document for each package installed in this environment, by name."""
    found: dict[str, PackageDocument] = {}
    for distribution in distributions():
        metadata = distribution.metadata.json
        if "name" not in metadata:
            continue  # what is left of a package that was half removed
        name = str(metadata["name"]).lower()
        parts = (metadata.get("summary"), metadata.get("description"))
        found[name] = PackageDocument(
            package=name,
            version=distribution.version,
            description="\n\n".join(str(part) for part in parts if part)[:_MAX_CHARS],
            topics=[
                classifier.removeprefix("Topic :: ")
                for classifier in metadata.get("classifier", [])
                if classifier.startswith("Topic :: ")
            ],
        )
    return [found[name] for name in sorted(found)]


def write_documents(path: str) -> None:
    """Make the Delta table at `path` hold them: what is the same there is left as it is."""
    rows = pa.Table.from_pylist([asdict(document) for document in installed_packages()], _SCHEMA)
    if not DeltaTable.is_deltatable(path):
        write_deltalake(path, rows, configuration={"delta.enableChangeDataFeed": "true"})
        return
    merge = DeltaTable(path).merge(rows, "new.package = old.package", source_alias="new", target_alias="old")
    merge = merge.when_matched_update_all("new.version <> old.version or new.description <> old.description")
    merge.when_not_matched_insert_all().when_not_matched_by_source_delete().execute()
