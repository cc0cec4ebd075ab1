"""A run's HTML page: what came in, what became of it, how the labels moved. No Spark, no torch."""

from gliclass_spark.report.outcomes import Document, Outcome, Sample, outcomes
from gliclass_spark.report.page import render

__all__ = ["Document", "Outcome", "Sample", "outcomes", "render"]
