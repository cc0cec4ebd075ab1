"""Shadow page: where another model's tags differ from those of a run, as one HTML page."""

from __future__ import annotations

from markupsafe import Markup

from gliclass_spark.report import number_format
from gliclass_spark.report.charts.bars import histogram
from gliclass_spark.report.drawing import Drawing
from gliclass_spark.report.template import fill
from gliclass_spark.runs.shadow_comparison import DIFFERENCE_BINS, ShadowComparison


def shadow_page(pipeline: str, comparison: ShadowComparison) -> str:
    """Return the HTML page. It has no script and fetches nothing; the same comparison gives the same page."""
    changed = comparison.documents - comparison.same_labels
    documents = number_format.counted(comparison.documents, "document")
    return fill(
        "shadow.html.j2",
        pipeline=pipeline,
        shadow=comparison,
        headline=f"{number_format.number(changed)} of {documents} would get other labels",
        shadow_chart=difference_chart(comparison, Drawing()),
    )


def difference_chart(comparison: ShadowComparison, drawing: Drawing) -> Markup | None:
    """Return the histogram of the differences of all scores, None without any."""
    if not any(comparison.differences):
        return None
    middle = DIFFERENCE_BINS // 2
    lower, higher = sum(comparison.differences[:middle]), sum(comparison.differences[middle:])
    description = f"Differences of scores from -1 to 1: {lower:,} below 0, {higher:,} from 0 on"
    return drawing.svg(histogram(comparison.differences, None, None), description)
