"""Benchmark page: the page of the site that is generated from the files of benchmarks/results."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from devtools.site.benchmark_tables import (
    base_size,
    by_recipe,
    calibration,
    default_threshold,
    explored,
    int8_ways,
    labels,
    learned_from_rewards,
    matrix,
    plain,
    precisions,
    quality,
    recipes,
    run_overhead,
    spark_share,
    throughput,
    trainings,
    windows_and_groups,
)
from devtools.site.links import ROOT

RESULTS = ROOT / "benchmarks" / "results"
_HEAD = """# Benchmarks

The figures are read from the files of `benchmarks/results` when this site is built. Each table names the machine and
the date, and links to its file. [How the figures are measured](../benchmarks/README.md) explains the columns and has
the commands for your machine. Compare ratios: seconds also depend on what else ran on the machine.
"""
_THROUGHPUT = "throughput-"  # what the names of the files of all devices begin with
# Title, introduction, and the function that prints the table.
Printer = tuple[str, str, Callable[[Any], str]]


def page() -> str:
    """Return the page in Markdown, with a section for each result file."""
    results = {file.name: json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*.json"))}
    by_device = [name for name in results if name.startswith(_THROUGHPUT)]
    named = [name for name in PRINTERS if name in results]
    others = [name for name in results if name not in {*by_device, *named}]
    return "\n\n".join([_HEAD, *(section(name, results[name]) for name in (*by_device, *named, *others))]) + "\n"


def section(name: str, result: Any) -> str:
    """Return the section of a result file: title, introduction, machine, tables, link."""
    title, introduction, tables = _printer(name, result)
    link = f"From [{name}](../benchmarks/results/{name})."
    return "\n\n".join(part for part in (f"## {title}", introduction, machine(result), tables(result), link) if part)


def _printer(name: str, result: Any) -> Printer:
    if name.startswith(_THROUGHPUT):
        threads = result["threads"]
        on = "a GPU" if "device" in result else f"a processor, {threads} thread{'s' * (threads > 1)}"
        return f"The engine against the gliclass library, on {on}", "From strings to scores, ten labels.", throughput
    return PRINTERS.get(name, (name.removesuffix(".json").replace("_", " ").replace("-", " ").capitalize(), "", plain))


def machine(result: Any) -> str:
    """Return where and when a file was measured: its machines, and the first and last day."""
    measurements = [part for part in (result if isinstance(result, list) else [result]) if "machine" in part]
    machines = [{"device": part.get("device"), **part["machine"]} for part in measurements]
    names = {_machine_name(machine) for machine in machines}
    days = sorted(machine["date"][:10] for machine in machines if "date" in machine)
    when = days[0] if len(set(days)) == 1 else " to ".join((days[0], days[-1])) if days else ""
    return f"Measured on {' and '.join(sorted(names))}{f', {when}' if when else ''}." if machines else ""


def _machine_name(result: dict[str, Any]) -> str:
    parts = [
        str(result.get("device") or result.get("gpu") or result.get("cpu", "")),
        f"{result['cores']} cores" if "cores" in result else "",
    ]
    versions = [f"{name} {result[name]}" for name in ("torch", "transformers") if name in result]
    return ", ".join(part for part in [*parts, *versions] if part)


# By file name, in the order of the page.
PRINTERS: dict[str, Printer] = {
    "spark_share.json": (
        "Spark against the engine alone",
        "The engine's seconds over the tag job's, on the same texts and cores. At 1, Spark costs nothing.",
        spark_share,
    ),
    "run_overhead.json": ("Fixed cost of a run", "", run_overhead),
    "labels.json": ("Cost of labels", "", labels),
    "base_size_cpu.json": (
        "Models of base size, on a processor",
        "Texts/s, and the share of a contender's own speed with one label that it keeps.",
        base_size,
    ),
    "base_size_cuda.json": (
        "Models of base size, on a GPU",
        "Texts/s, and the share of a contender's own speed with one label that it keeps; the engine of commit 93ac203.",
        base_size,
    ),
    "reference_matrix.json": (
        "Equality with the gliclass library",
        "The largest difference between two logits of small random models, float32, batch size 1.",
        matrix,
    ),
    "windows_and_groups.json": (
        "Long texts and many labels",
        "Macro-F1 of the best label of each text. Speed is not compared here.",
        windows_and_groups,
    ),
    "precisions.json": (
        "Precisions on processors",
        "Macro-F1 of the embedded model, and in parentheses the share of the labels whose score is on the other side "
        "of 0.5 than in float32.",
        precisions,
    ),
    "int8_trial.json": (
        "Ways to compute in 8-bit integers",
        "**error**: of the outputs, relative to those in float32. **company**: of a text alone, relative to its own "
        "among others; what is not about zero breaks *one text, one score*.",
        int8_ways,
    ),
    "embedded.json": ("Quality of the embedded model", "Macro-F1 of the best label of each text.", quality),
    "few_shot.json": (
        "Eight examples of each label",
        "Macro-F1: mean and range of the draws.",
        quality,
    ),
    "few_shot_choice.json": (
        "Ways to train on eight examples of each label",
        "Macro-F1 on sets that the embedded model was not trained on. c: the weights before the training count like so "
        "many examples. Held out: their share is the one that raises the likelihood of held-out examples most, so many "
        "standard errors below the mean gain, within what the two c allow. Else head: where that leaves "
        "the model as it was, its head alone is trained, and averaged with c; if likelier: only where held-out "
        "examples become likelier by it in the mean.",
        plain,
    ),
    "few_shot_head.json": (
        "Eight examples of each label, the head alone",
        "Macro-F1: mean and range of the draws. The encoder stays as it is.",
        quality,
    ),
    "label_set_examples.json": (
        "Examples in the label set",
        "Macro-F1 of the embedded model, which is not trained on them: means of the draws. Rules: how many standard "
        "errors the gain of n held-out examples must exceed. At the threshold 0.5: F1 and calibration error.",
        plain,
    ),
    "recipes.json": (
        "Recipes for the embedded model",
        "Macro-F1 on sets that were not trained on (their train splits). Each recipe changes one setting of the "
        "embedded model's, with the same number of texts. Differences within 0.01 may be noise.",
        recipes,
    ),
    "mixture_trials.json": (
        "Trials of the training mixture",
        "Macro-F1 on sets that no trial is trained on: the embedded model trained further for 250 steps, with one "
        "thing changed. Differences within those of the seeds are noise.",
        by_recipe,
    ),
    "embedded_trainings.json": ("Trainings averaged into the embedded model", "", trainings),
    "calibration.json": (
        "Calibration",
        "Expected calibration error on texts that were not fitted to: over all scores / mean of the labels. Sampling "
        "alone: of labels simulated from the scores, so that only the sampling of texts is at fault.",
        calibration,
    ),
    "calibration_choice.json": (
        "Ways to calibrate with few texts",
        "Log loss in nats a score, and calibration errors, on texts that were not fitted to, mean of sets that the "
        "embedded model was not trained on; fitted to 100 texts and to half of a set.",
        plain,
    ),
    "default_threshold.json": (
        "The default threshold",
        "At 0.5: precision, recall, F1 and calibration error of each label on its own; then that of the softmax.",
        default_threshold,
    ),
    "learning_from_rewards.json": (
        "Ways to learn from rewards",
        "Rewards of labels and verdicts: utility of a text. Of documents: F-beta, beta = .5. Mean and range of seeds.",
        learned_from_rewards,
    ),
    "exploration.json": (
        "Exploration",
        "The reward per document of another model, estimated from feedback on this one's decisions.",
        explored,
    ),
}
