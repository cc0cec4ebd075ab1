"""Results of maintenance: files and sizes of each table, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from gliclass_spark.cli.output.result_table import ResultTable

if TYPE_CHECKING:
    from gliclass_spark.spark.jobs.maintain import TableSize


def show_maintenance(console: Console, tables: Sequence[TableSize]) -> None:
    """Print each table's files and megabytes before and after."""
    printed = ResultTable("Compacted and vacuumed")
    printed.text("table")
    for heading in ("files before", "files after", "MB before", "MB after"):
        printed.number(heading)
    for table in tables:
        sizes = (f"{table.bytes_before / 1e6:.1f}", f"{table.bytes_after / 1e6:.1f}")
        printed.row(escape(table.table), str(table.files_before), str(table.files_after), *sizes)
    printed.print(console)
