"""DAG documentation in Markdown, from the DAG's configuration file."""

from __future__ import annotations

from pathlib import Path

from gliclass_spark.config.catalog import place_of
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.redaction import without_secrets


def describe(file: Path, pipeline: Pipeline) -> str:
    """Return the documentation of a pipeline: source, labels and rules."""
    source = pipeline.source
    lines = [
        f"### {pipeline.name}",
        f"`{file}`",
        "",
        f"Tags each new or changed document of `{source.path or source.table}` (`{source.id}`, `{source.text}`) "
        f"with **{pipeline.model}**; tables in `{place_of(pipeline.tables)}`.",
        "",
        f"**Labels** ({pipeline.label_set.name}): {', '.join(pipeline.label_set.names)}",
    ]
    if "filter" in pipeline.steps:
        rejects = [(f"reject: {rule.reason}", rule.when) for rule in pipeline.reject]
        routes = [(f"to {route.route}", route.when) for route in pipeline.routes]
        lines += ["", "| rule, in order | when |", "|---|---|"]
        lines += [f"| {name} | `{_cell(when)}` |" for name, when in (*rejects, *routes)]
        if "route" in pipeline.steps:
            lines.append(f"| to {pipeline.default_route} | no route matched |")
    lines += ["", f"Fails, and changes nothing, if more than {pipeline.max_error_ratio:.1%} can't be scored."]
    return without_secrets("\n".join(lines))


def describe_retraining(file: Path, config: RetrainConfig) -> str:
    """Return the documentation of a retraining: its data, steps and gate rules."""
    replayed = ", ".join(f"`{path}`" for path in config.replay) or "nothing"
    ppo = f"then {config.ppo.steps} steps of PPO" if config.ppo is not None else "no PPO"
    settings = config.supervised
    length = f"{settings.steps} steps" if settings.passes is None else f"{settings.passes:g} passes"
    lines = [
        f"### {config.pipeline.name}: retraining",
        f"`{file}`",
        "",
        f"Trains **{config.pipeline.model}** on feedback about the pipeline `{config.pipeline_file}`: "
        f"{length} of supervised training, {ppo}; replays {replayed}.",
        "",
        f"Skipped with fewer than {config.min_decisions} decisions with a verdict or reward, or "
        f"{config.min_new_signals} signals since the last retraining. The champion is checked in either case.",
        "",
        f"The candidate is compared with the champion on `{config.golden}`, and on the newest "
        f"{config.holdout_share:.0%} of the documents with feedback. It is promoted if it passes every rule:",
        "",
        "| rule | value |",
        "|---|---|",
        *(f"| {rule} | {value} |" for rule, value in config.gate.model_dump().items()),
    ]
    return without_secrets("\n".join(lines))


def _cell(condition: str) -> str:
    return " ".join(condition.split()).replace("|", "\\|").replace("`", "'")
