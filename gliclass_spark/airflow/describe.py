"""What a DAG says of itself, in Markdown, from its pipeline's own file."""

from __future__ import annotations

from pathlib import Path

from gliclass_spark.config import Pipeline


def describe(file: Path, pipeline: Pipeline) -> str:
    """The pipeline's flow, labels and rules."""
    source = pipeline.source
    lines = [
        f"### {pipeline.name}",
        f"`{file}`",
        "",
        f"Asks **{pipeline.model}** about each new or changed document of `{source.path or source.table}` "
        f"(`{source.id}`, `{source.text}`); tables in `{pipeline.tables}`.",
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
    return "\n".join(lines)


def _cell(condition: str) -> str:
    return " ".join(condition.split()).replace("|", "\\|").replace("`", "'")
