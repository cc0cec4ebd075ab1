"""Results of maintenance: files and sizes of each table, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from gliclass_spark.spark.jobs.maintain import TableSize


def show_maintenance(console: Console, tables: Sequence[TableSize]) -> None:
    """Print each table's files and megabytes before and after."""
    printed = Table(title="Compacted and vacuumed", title_justify="left")
    printed.add_column("table")
    for heading in ("files before", "files after", "MB before", "MB after"):
        printed.add_column(heading, justify="right")
    for table in tables:
        sizes = (f"{table.bytes_before / 1e6:.1f}", f"{table.bytes_after / 1e6:.1f}")
        printed.add_row(table.table, str(table.files_before), str(table.files_after), *sizes)
    console.print(printed)
