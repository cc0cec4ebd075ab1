"""The jobs of a run: read, transform, write, count, and write down what was done.

Reading and writing happen here and in `tables`; `tag`, `filter` and `route` of the package above only
say what follows from what.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gliclass_spark.manifest import Manifest
from gliclass_spark.spark.runs import last_success
from gliclass_spark.spark.steps.filter import filter_step
from gliclass_spark.spark.steps.route import route_step
from gliclass_spark.spark.steps.run import Run
from gliclass_spark.spark.steps.tag import tag_step

STEPS: dict[str, Callable[[Run], Manifest]] = {"tag": tag_step, "filter": filter_step, "route": route_step}


def up_to_date(run: Run) -> bool:
    """Whether a run would find nothing to do. A source without versions can't tell: never, then."""
    source = run.documents.delta
    if source is None:
        return False
    known, asked = run.runs.recent(), run.pipeline.label_set.hash
    tagged, filtered, routed = (last_success(known, job, label_set_hash=asked) for job in STEPS)
    if tagged is None or filtered is None or routed is None:
        return False
    same_rules = filtered.rules_hash == routed.rules_hash == run.pipeline.rules.hash
    read_all = tagged.inputs["source"] == replace(source.latest(run.spark), since=tagged.inputs["source"].since)
    filtered_all = filtered.inputs["tags"].until == tagged.outputs["tags"].until
    same_source = filtered.inputs["source"].until == tagged.inputs["source"].until
    return same_rules and read_all and filtered_all and same_source and _reads(routed, filtered)


def _reads(routed: Manifest, filtered: Manifest) -> bool:
    return routed.inputs["kept"].until == filtered.outputs["kept"].until


__all__ = ["STEPS", "Run", "filter_step", "route_step", "tag_step", "up_to_date"]
