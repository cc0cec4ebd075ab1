"""Metrics of a run in Prometheus' text format, for node_exporter's textfile collector or a Pushgateway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gliclass_spark.atomic_files import write_text

if TYPE_CHECKING:
    from gliclass_spark.runs.manifest import Manifest

MetricsFile = Annotated[
    Path | None,
    typer.Option("--metrics", help="Also write the run's metrics to this file, as Prometheus text (mail.prom)."),
]
_Sample = tuple[Mapping[str, str], float]

_HELP = {
    "job_success": "1 if the last run of the job succeeded, else 0.",
    "job_finished_timestamp_seconds": "When the last run of the job ended, in seconds since 1970.",
    "job_duration_seconds": "Duration of the last run of the job.",
    "step_duration_seconds": "Duration of each step of the job's last run.",
    "documents": "Documents in the job's tables at the end of the run.",
    "rows_in": "Documents that the job decided about in the last run.",
    "rows": "Rows of the last run by outcome.",
    "rejected_rows": "Rejected rows of the last run by reason.",
    "routed_rows": "Routed rows of the last run by route.",
    "error_rows": "Documents that could not be scored in the last run, by error code.",
    "labelled_documents": "Documents tagged in the last run, by label.",
    "tokens": "Tokens scored in the last run.",
    "texts_per_second": "Texts scored per second in the last run.",
    "padding_ratio": "Padding over all tokens computed in the last run.",
    "model_loads": "Times that the last run loaded the model.",
}
_OUTCOMES = ("tagged", "retagged", "tombstoned", "kept", "quarantined", "waiting")


def write_metrics(path: Path, manifests: Sequence[Manifest]) -> None:
    """Write the metrics of a run to a file in one step: a collector never reads a part of it."""
    write_text(path, prometheus_text(manifests))


def prometheus_text(manifests: Sequence[Manifest]) -> str:
    """Return the metrics of a run's manifests: gauges named gliclass_spark_*, with the labels pipeline and job.

    Format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
    """
    samples: dict[str, list[str]] = {name: [] for name in _HELP}
    for manifest in manifests:
        job = {"pipeline": manifest.pipeline, "job": manifest.job}
        for name, (labels, value) in _samples(manifest):
            shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in {**job, **labels}.items())
            samples[name].append(f"gliclass_spark_{name}{{{shown}}} {value:.17g}")
    lines = []
    for name, printed in samples.items():
        if printed:
            lines += [f"# HELP gliclass_spark_{name} {_HELP[name]}", f"# TYPE gliclass_spark_{name} gauge", *printed]
    return "\n".join(lines) + "\n"


def _samples(manifest: Manifest) -> Iterator[tuple[str, _Sample]]:
    """Yield the samples of one job; a figure that does not apply to the job has none."""
    single = {
        "job_success": manifest.status == "succeeded",
        "job_finished_timestamp_seconds": manifest.finished_at.timestamp(),
        "job_duration_seconds": manifest.seconds,
        "documents": manifest.documents,
        "rows_in": manifest.rows_in,
        "tokens": manifest.tokens,
        "texts_per_second": manifest.texts_per_s,
        "padding_ratio": manifest.padding_share,
        "model_loads": manifest.model_loads,
    }
    for name, value in single.items():
        if value is not None:
            yield name, ({}, value)
    for outcome in _OUTCOMES:
        count = getattr(manifest, outcome)
        if count is not None:
            yield "rows", ({"outcome": outcome}, count)
    by_label: dict[str, tuple[str, Mapping[str, float]]] = {
        "step_duration_seconds": ("step", manifest.step_seconds),
        "rejected_rows": ("reason", manifest.rejected),
        "routed_rows": ("route", manifest.routed),
        "error_rows": ("code", manifest.errors),
        "labelled_documents": ("label", manifest.label_counts),
    }
    for name, (key, counts) in by_label.items():
        for text, count in counts.items():
            yield name, ({key: text}, count)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
