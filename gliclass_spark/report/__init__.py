"""The HTML pages: of a run, what came in and what became of it; of a retraining, its verdict. No Spark, no torch."""

from gliclass_spark.report.page import render, warnings
from gliclass_spark.report.verdict import RetrainingFacts, verdict_page
from gliclass_spark.runs.outcomes import SAMPLES, Outcome, Sample, SampleDocument, outcomes

__all__ = [
    "SAMPLES",
    "Outcome",
    "RetrainingFacts",
    "Sample",
    "SampleDocument",
    "outcomes",
    "render",
    "verdict_page",
    "warnings",
]
