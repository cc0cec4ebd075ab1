"""A run's HTML page: what came in, what became of it, how the labels moved. No Spark, no torch."""

from gliclass_spark.report.outcomes import SAMPLES, Document, Outcome, Sample, outcomes
from gliclass_spark.report.page import render, warnings

__all__ = ["SAMPLES", "Document", "Outcome", "Sample", "outcomes", "render", "warnings"]
