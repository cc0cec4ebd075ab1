"""Demo documents: the descriptions of the installed Python packages, which need no download."""

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
# Of a description. Some are very long, and tagging all of them in full takes six minutes on two cores.
_MAX_CHARS = 4000


@dataclass(frozen=True)
class PackageDocument:
    """A package's summary and the start of its README, with the topics of its trove classifiers."""

    package: str
    version: str
    description: str
    topics: list[str]


def installed_packages() -> list[PackageDocument]:
    """Return one document per package installed in this environment, sorted by name."""
    documents: dict[str, PackageDocument] = {}
    for distribution in distributions():
        metadata = distribution.metadata.json
        if "name" not in metadata:
            continue  # the remains of an incomplete uninstallation
        name = str(metadata["name"]).lower()
        parts = (metadata.get("summary"), metadata.get("description"))
        documents[name] = PackageDocument(
            package=name,
            version=distribution.version,
            description="\n\n".join(str(part) for part in parts if part)[:_MAX_CHARS],
            topics=[
                classifier.removeprefix("Topic :: ")
                for classifier in metadata.get("classifier", [])
                if classifier.startswith("Topic :: ")
            ],
        )
    return [documents[name] for name in sorted(documents)]


def write_documents(path: str) -> None:
    """Create or update the Delta table of installed packages at `path`. Unchanged rows are not rewritten."""
    rows = pa.Table.from_pylist([asdict(document) for document in installed_packages()], _SCHEMA)
    if not DeltaTable.is_deltatable(path):
        write_deltalake(path, rows, configuration={"delta.enableChangeDataFeed": "true"})
        return
    merge = DeltaTable(path).merge(rows, "new.package = old.package", source_alias="new", target_alias="old")
    merge = merge.when_matched_update_all("new.version <> old.version or new.description <> old.description")
    merge.when_not_matched_insert_all().when_not_matched_by_source_delete().execute()
