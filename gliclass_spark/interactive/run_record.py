"""Record of a pipeline's run: counts, tables and report, shown in a notebook as a table and a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from gliclass_spark.runs.manifest import Manifest

# Sizes of the chart in CSS pixels. Its bars have one colour that is readable on light and dark pages.
_BAR_HEIGHT, _ROW_HEIGHT, _NAME_WIDTH, _BAR_WIDTH, _COUNT_WIDTH = 12, 22, 200, 260, 80
_COLOUR = "#4878b0"
_MAX_BARS = 20
_MAX_NAME_CHARS = 28


@dataclass(frozen=True)
class RunRecord:
    """What a run of a pipeline did.

    manifests: one for each step, in order; see the table `runs`. tables: the tables' places by name: paths, or names in
    the catalog. report: the HTML page; None if none was written.
    """

    run_id: str
    pipeline: str
    manifests: tuple[Manifest, ...]
    tables: Mapping[str, str]
    report: Path | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Documents by outcome.

        `documents` in the source; `tagged` by this run; of those that it decided about `kept`, `rejected` and
        `quarantined`, with `rejected: REASON`; and `to ROUTE`. Outcomes of steps that the pipeline does not have are
        left out.
        """
        counts: dict[str, int | None] = {}
        for manifest in self.manifests:
            if manifest.job == "tag":
                counts |= {"documents": manifest.documents, "tagged": manifest.tagged}
            elif manifest.job == "filter":
                counts |= {"kept": manifest.kept, "rejected": sum(manifest.rejected.values())}
                counts |= {f"rejected: {reason}": count for reason, count in manifest.rejected.items()}
                counts["quarantined"] = manifest.quarantined
            elif manifest.job == "route":
                counts |= {f"to {route}": count for route, count in manifest.routed.items()}
        return {name: count or 0 for name, count in counts.items()}

    @property
    def label_counts(self) -> dict[str, int]:
        """Documents that this run tagged, by label, most first."""
        counts = {
            label: count for manifest in self.manifests for label, count in manifest.label_counts.items() if count
        }
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @property
    def seconds(self) -> float:
        """The sum of the steps' durations."""
        return sum(manifest.seconds for manifest in self.manifests)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        return f"RunRecord({self.run_id!r} of pipeline {self.pipeline!r}: {counts}; {self.seconds:.1f} s)"

    def _repr_html_(self) -> str:
        """Return a table of the counts and a chart of the labels, for notebooks. It has no script."""
        rows = "".join(
            f'<tr><td style="text-align:left">{escape(name)}</td><td style="text-align:right">{count:,}</td></tr>'
            for name, count in self.counts.items()
        )
        title = f"Run {self.run_id} of pipeline {self.pipeline}, {self.seconds:.1f} s"
        chart = _bars("Tagged documents by label", list(self.label_counts.items())) if self.label_counts else ""
        report = f"<p>Report: {escape(str(self.report))}</p>" if self.report is not None else ""
        return f"<div><table><caption>{escape(title)}</caption>{rows}</table>{chart}{report}</div>"


def _bars(title: str, counts: Sequence[tuple[str, int]]) -> str:
    """Return an SVG element with a horizontal bar for each count; those beyond _MAX_BARS are left out."""
    shown = counts[:_MAX_BARS]
    longest = max(count for _, count in shown)
    rows = []
    for index, (name, count) in enumerate(shown):
        middle = index * _ROW_HEIGHT + _ROW_HEIGHT / 2
        width = max(_BAR_WIDTH * count / longest, 1)
        rows.append(
            f'<text x="{_NAME_WIDTH - 8}" y="{middle}" text-anchor="end" dominant-baseline="central">'
            f"{escape(_shortened(name))}</text>"
            f'<rect x="{_NAME_WIDTH}" y="{middle - _BAR_HEIGHT / 2}" width="{width:.1f}" height="{_BAR_HEIGHT}" '
            f'fill="{_COLOUR}"/>'
            f'<text x="{_NAME_WIDTH + width + 6:.1f}" y="{middle}" dominant-baseline="central">{count:,}</text>'
        )
    left_out = f", the {len(shown)} most frequent of {len(counts)}" if len(counts) > len(shown) else ""
    size = f'width="{_NAME_WIDTH + _BAR_WIDTH + _COUNT_WIDTH}" height="{len(shown) * _ROW_HEIGHT}"'
    return (
        f"<p>{escape(title)}{left_out}</p>"
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}" '
        f'font-family="sans-serif" font-size="12" fill="currentColor">{"".join(rows)}</svg>'
    )


def _shortened(name: str) -> str:
    """Return the name, cut, without the characters that XML can't hold."""
    printable = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
    return printable if len(printable) <= _MAX_NAME_CHARS else f"{printable[: _MAX_NAME_CHARS - 1]}…"
