"""Training mixture: the labelled sets that the embedded model is trained on, with one spelling for each label.

`sets.yaml` lists every set, its licence, and why a mixture leaves it out.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, TypeAdapter

from gliclass_spark import yaml_loader
from gliclass_spark.errors import TrainingError
from gliclass_spark.training.data.labelled_text import letters

Licences = Literal["product", "all"]
Languages = Literal["English", "all"]
Group = Literal["topics", "opinion", "medicine", "law", "lists", "requests", "text_quality", "security", "languages"]

SETS = Path(__file__).parent / "sets.yaml"


class ListedSet(BaseModel):
    """What `sets.yaml` says about a set. Its head explains the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    licence: str
    group: Group
    language: Literal["English", "other"] = "English"
    not_in_product: str | None = None

    def is_in(self, licences: Licences, languages: Languages = "English") -> bool:
        return languages in ("all", self.language) and (licences == "all" or self.not_in_product is None)


def listed_sets(path: Path = SETS) -> dict[str, dict[str, ListedSet]]:
    """Return the sets of each folder, by name."""
    return TypeAdapter(dict[str, dict[str, ListedSet]]).validate_python(yaml_loader.load(path))


def mixture_files(
    data: Path,
    sets: Mapping[str, Mapping[str, ListedSet]],
    licences: Licences,
    languages: Languages = "English",
    without: Collection[str] = (),
) -> list[Path]:
    """Return the files of the mixture's sets.

    Raises TrainingError for a set that has no file, and for a file of these folders that is not listed.
    """
    unknown = sorted(set(without) - {name for folder in sets.values() for name in folder})
    if unknown:
        raise TrainingError(f"no set is named {', '.join(unknown)}; {SETS.name} has the names")
    files = []
    for folder, listed in sets.items():
        present = {file.stem: file for file in sorted((data / folder).glob("*.parquet"))}
        unlisted = sorted(present.keys() - listed.keys())
        if unlisted:
            raise TrainingError(
                f"{data / folder} has sets that {SETS.name} doesn't list: {', '.join(unlisted)}; add them"
            )
        chosen = [name for name, each in listed.items() if each.is_in(licences, languages) and name not in without]
        missing = sorted(set(chosen) - present.keys())
        if missing:
            raise TrainingError(
                f"{data / folder} lacks {', '.join(missing)}; add the files, or leave out with --without"
            )
        files += [present[name] for name in chosen]
    return files


def with_one_spelling(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with each label in its most frequent spelling, and the labels of a row in their order."""
    stripped = [{**row, "labels": [name.strip() for name in row["labels"]]} for row in rows]
    counts = Counter(name for row in stripped for name in row["labels"])
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for name in counts:
        spellings[letters(name)].append(name)
    chosen = {name: max(names, key=lambda each: (counts[each], each)) for names in spellings.values() for name in names}
    return [{**row, "labels": sorted({chosen[name] for name in row["labels"]})} for row in stripped]


def write(files: Iterable[Path], out: Path) -> None:
    """Write each set to a table of the same name and columns."""
    out.mkdir(parents=True, exist_ok=True)
    for file in files:
        table = pq.read_table(file)
        rows = with_one_spelling(table.to_pylist())
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), out / file.name)
        print(f"{file.stem}: {len(rows):,} texts, {len({name for row in rows for name in row['labels']}):,} labels")


def add_command(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser("mixture", help="copy the sets that a model is trained on")
    parser.add_argument("data", type=Path, help="a folder with the folders of sets.yaml")
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--licences",
        choices=["product", "all"],
        default="product",
        help="product: sets whose licence allows use in a product; all: research sets, too",
    )
    parser.add_argument(
        "--languages", choices=["English", "all"], default="English", help="all: sets in other languages, too"
    )
    parser.add_argument("--folders", nargs="+", metavar="FOLDER", help="folders to copy from; default: all")
    parser.add_argument("--without", nargs="+", default=[], metavar="SET", help="sets to leave out")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    listed = listed_sets()
    folders = options.folders or list(listed)
    unknown = sorted(set(folders) - listed.keys())
    if unknown:
        raise TrainingError(f"{SETS.name} has no folder {', '.join(unknown)}; it has {', '.join(listed)}")
    sets = {folder: listed[folder] for folder in folders}
    write(mixture_files(options.data, sets, options.licences, options.languages, options.without), options.out)
