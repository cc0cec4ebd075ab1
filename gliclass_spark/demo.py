"""Real documents with nothing to download: what the Python packages installed here say of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import distributions


@dataclass(frozen=True)
class Document:
    """A package's summary and README, with its authors' own classification (trove topics) beside it."""

    package: str
    version: str
    description: str
    topics: list[str]


def installed_packages() -> list[Document]:
    """One document for each package installed in this environment, by name."""
    found: dict[str, Document] = {}
    for distribution in distributions():
        metadata = distribution.metadata.json
        if "name" not in metadata:
            continue  # what is left of a package that was half removed
        name = str(metadata["name"]).lower()
        parts = (metadata.get("summary"), metadata.get("description"))
        found[name] = Document(
            package=name,
            version=distribution.version,
            description="\n\n".join(str(part) for part in parts if part),
            topics=[
                classifier.removeprefix("Topic :: ")
                for classifier in metadata.get("classifier", [])
                if classifier.startswith("Topic :: ")
            ],
        )
    return [found[name] for name in sorted(found)]
