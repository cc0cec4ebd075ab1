"""The page of the benchmarks, printed from what they wrote into benchmarks/results. No figure is typed by hand."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any

from devtools.site.links import ROOT

RESULTS = ROOT / "benchmarks" / "results"
_HEAD = """# Benchmarks

Every figure here is read from a file of `benchmarks/results` when this site is built. Each table says on which machine
and when it was measured, and links to its file. [How the figures are measured](../benchmarks/README.md) says what each
column means, and by which command you get the same table for your machine. Compare ratios: seconds also tell what
else ran on the machine.
"""
Row = Sequence[object]
# Its title, what is said above its table, and what prints the table.
Printer = tuple[str, str, Callable[[Any], str]]


def page() -> str:
    """A section for each result file, in Markdown."""
    found = {file.name: json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*.json"))}
    of_engine = [name for name, result in found.items() if "contenders" in result]
    known = [name for name in PRINTERS if name in found]
    others = [name for name in found if name not in {*of_engine, *known}]
    return "\n\n".join([_HEAD, *(section(name, found[name]) for name in (*of_engine, *known, *others))]) + "\n"


def section(name: str, found: Any) -> str:
    """The title of a result file, its machine, its tables, and a link to it."""
    title, said, tables = _printer(name, found)
    link = f"From [{name}](../benchmarks/results/{name})."
    return "\n\n".join(part for part in (f"## {title}", said, machine(found), tables(found), link) if part)


def _printer(name: str, found: Any) -> Printer:
    if "contenders" in found:
        threads = found["threads"]
        model, many = found["model"], "" if threads == 1 else "s"
        return f"The engine against the gliclass library, {threads} thread{many}", f"The model is {model}.", engine
    return PRINTERS.get(name, (name.removesuffix(".json").replace("_", " ").replace("-", " ").capitalize(), "", plain))


def machine(found: Any) -> str:
    """Where and when: of a file of several measurements, each machine and the first and last day."""
    measured = [each for each in (found if isinstance(found, list) else [found]) if "machine" in each]
    described = [{"device": each.get("device"), **each["machine"]} for each in measured]
    named = {_machine(each) for each in described}
    days = sorted(each["date"][:10] for each in described if "date" in each)
    when = days[0] if len(set(days)) == 1 else " to ".join((days[0], days[-1])) if days else ""
    return f"Measured on {' and '.join(sorted(named))}{f', {when}' if when else ''}." if described else ""


def _machine(found: dict[str, Any]) -> str:
    parts = [
        str(found.get("device") or found.get("gpu") or found.get("cpu", "")),
        f"{found['cores']} cores" if "cores" in found else "",
    ]
    versions = [f"{name} {found[name]}" for name in ("torch", "transformers") if name in found]
    return ", ".join(part for part in [*parts, *versions] if part)


def table(head: Row, rows: Iterable[Row], texts: int = 1) -> str:
    """A table in Markdown, whose first `texts` columns are texts and whose others are figures."""
    rule = ["---" if place < texts else "---:" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, rule, *rows))


def _spread(of: dict[str, float], digits: int = 2) -> str:
    low, high = of.get("min", of.get("smallest")), of.get("max", of.get("largest"))
    return f"{of['median']:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def engine(found: Any) -> str:
    rows = [
        (
            each["name"],
            _spread(each["speedup"]),
            f"{each['texts_per_s']:.1f}",
            f"{each['padding_share']:.1%}" if "padding_share" in each else "",
            f"{each['largest_score_difference']:.1e}" if "largest_score_difference" in each else "",
            f"{each['peak_rss_mib']:.0f}" if "peak_rss_mib" in each else "",
        )
        for each in found["contenders"]
    ]
    return table(("contender", "times as fast", "texts/s", "padding", "differs by", "RSS, MiB"), rows)


def spark_share(found: Any) -> str:
    rows = [
        (what, f"{found[key]['median']:.2f}", ", ".join(f"{each:.2f}" for each in found[key]["all"]))
        for key, what in (("share", "share"), ("share_while_scoring", "share while scoring"))
    ]
    return table(("", "median", "each round"), rows)


def night(found: Any) -> str:
    rows = [
        (f"{int(documents):,}", len(runs), *(f"{fmean(run[part] for run in runs):.1f}" for part in _NIGHT))
        for documents, runs in found["seconds"].items()
    ]
    told = f"A night that adds {found['new_documents']:,} documents; mean seconds. The ratio of the last row to the "
    told += f"first is {_spread(found['ratio'])}."
    return f"{told}\n\n{table(('documents there before', 'nights', *_NIGHT), rows)}"


_NIGHT = ("total", "tag", "filter", "route")


def labels(found: Any) -> str:
    rows = [
        (each["attention"], each["labels"], f"{each['texts_per_s']:.1f}", _spread(each["of_one_label"]))
        for each in found["rows"]
        if "of_one_label" in each
    ]
    return table(("how labels are read", "labels", "texts/s", "of the speed with one label"), rows)


def quality(found: Any) -> str:
    """Macro-F1 of each contender on each set; of several seeds their mean and range."""
    scores = [each for part in found for each in part["scores"]] if isinstance(found, list) else found["scores"]
    contenders = list(dict.fromkeys((each["contender"], each["shots"]) for each in scores))
    cells: defaultdict[tuple[str, tuple[str, int]], list[float]] = defaultdict(list)
    for each in scores:
        cells[each["name"], (each["contender"], each["shots"])].append(each["macro_f1"])
    sizes = {each["name"]: (each["labels"], each["rows"]) for each in scores}
    rows = [(name, *size, *(_of_seeds(cells[name, each]) for each in contenders)) for name, size in sizes.items()]
    means = (_of_seeds([fmean(cells[name, each]) for name in sizes], mean_alone=True) for each in contenders)
    head = [f"{name}, {shots} examples a label" if shots else name for name, shots in contenders]
    return table(("set", "labels", "texts", *head), [*rows, ("**mean**", "", "", *means)])


def _of_seeds(values: Sequence[float], mean_alone: bool = False) -> str:
    if not values:
        return ""
    spread = "" if len(values) == 1 or mean_alone else f" ({min(values):.3f}-{max(values):.3f})"
    return f"{fmean(values):.3f}{spread}"


def recipes(found: Any) -> str:
    """A table for each device and number of texts, the best recipe first."""
    parts = []
    for device, texts in dict.fromkeys((row["device"], row["texts"]) for row in found):
        by_recipe: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in found:
            if (row["device"], row["texts"]) == (device, texts):
                by_recipe[row["recipe"]].append(row)
        rows = [
            (
                name,
                len(runs),
                _of_seeds([run["mean"] for run in runs]),
                *(_of_seeds([run["scores"][of] for run in runs], mean_alone=True) for of in runs[0]["scores"]),
            )
            for name, runs in sorted(by_recipe.items(), key=lambda each: -fmean(run["mean"] for run in each[1]))
        ]
        head = ("recipe", "seeds", "**mean**", *found[0]["scores"])
        parts.append(f"{texts:,} texts, on {device}:\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def trainings(found: Any) -> str:
    rows = [
        (
            row["seed"],
            row["attention"],
            row["texts"],
            f"{row['encoder_lr']:.0e}",
            row["max_text_tokens"],
            "yes" if row["wordnet_and_debian"] else "no",
            row["steps"],
            f"{row['mean']:.3f} of {row['rows_of_a_set']}",
            "yes" if row["averaged"] else "",
        )
        for row in found["rows"]
    ]
    head = ("seed", "labels", "texts", "rate", "tokens", "more data", "steps", "macro-F1, rows a set", "averaged")
    return f"Asked: {found['asked']}.\n\n{table(head, rows, texts=2)}"


def calibration(found: Any) -> str:
    rows = [
        (name, each["evaluated_on"], f"{each['before']['error']:.3f}", f"{each['after']['error']:.3f}")
        for name, each in found["sets"].items()
    ]
    return table(("set", "texts", "expected calibration error before", "after"), rows)


def simulated(found: Any) -> str:
    by_variant: defaultdict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for each in found["rows"]:
        by_variant[each["set"], each["variant"]].append(each)
    rows = [
        (*key, len(runs), *(_of_seeds([run[what] for run in runs]) for what in ("macro_f1", "reward", "others")))
        for key, runs in by_variant.items()
    ]
    return table(("set", "variant", "seeds", "macro-F1", "reward", "macro-F1 on other sets"), rows, texts=2)


def matrix(found: Any) -> str:
    rows = [
        (each["architecture"], each["backbone"], each["configurations"], f"{each['largest_difference']:.0e}")
        for each in found["rows"]
    ]
    every = "All" if found["every"] == 1 else f"Every {found['every']}th of the"
    over = len(found["over_tolerance"])
    told = f"{every} configurations, {found['configurations']:,}: the largest difference is "
    told += f"{found['largest_difference']:.1e}, {over or 'none'} is over the {found['tolerance']:.0e} that is allowed."
    head = ("architecture", "backbone", "configurations", "largest difference")
    return f"{told}\n\n{table(head, rows, texts=2)}"


def windows_and_groups(found: Any) -> str:
    parts = (
        (
            "Labels at once and in groups, of the embedded model's first version, which reads them beside the text.",
            "groups",
        ),
        ("Texts longer than the window: cut, or in windows that are joined.", "windows"),
    )
    return "\n\n".join(f"{said}\n\n{quality({'scores': found[key]})}" for said, key in parts)


def base_size(found: Any) -> str:
    """A table for each backbone: texts/s with each number of labels, and what is left of them with the most."""
    parts = []
    for backbone in dict.fromkeys(each["backbone"] for each in found["rows"]):
        own = [each for each in found["rows"] if each["backbone"] == backbone]
        counts = sorted({each["labels"] for each in own})
        speed = {(each["contender"], each["labels"]): f"{each['texts_per_s']:.1f}" for each in own}
        kept = {
            each["contender"]: _spread(each["of_one_label"])
            for each in own
            if each["labels"] == counts[-1] and each["of_one_label"]
        }
        rows = [
            (name, *(speed.get((name, count), "") for count in counts), kept.get(name, ""))
            for name in dict.fromkeys(each["contender"] for each in own)
        ]
        head = (backbone, *(f"{count} label{'s' * (count > 1)}" for count in counts), f"kept at {counts[-1]}")
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def plain(found: Any) -> str:
    """A file that this page knows nothing about: its rows as they are, if they are flat."""
    rows = found.get("rows") if isinstance(found, dict) else found
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return ""
    names = [name for name, value in rows[0].items() if isinstance(value, (str, int, float))]
    shown = [[_shown(row.get(name, "")) for name in names] for row in rows]
    return table(names, shown) if names else ""


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# By the file's name, in the order of the page.
PRINTERS: dict[str, Printer] = {
    "spark_share.json": (
        "Spark against the engine alone",
        "The engine's seconds over the tag job's, on the same texts and cores: 1 says that Spark costs nothing.",
        spark_share,
    ),
    "run_overhead.json": ("A night's cost", "", night),
    "labels.json": ("What labels cost", "", labels),
    "base_size_cpu.json": (
        "Models of base size, on a processor",
        "Texts/s, and the share of a contender's own speed with one label that it keeps.",
        base_size,
    ),
    "base_size_cuda.json": (
        "Models of base size, on a GPU",
        "Texts/s, and the share of a contender's own speed with one label that it keeps.",
        base_size,
    ),
    "reference_matrix.json": (
        "Equal to the gliclass library",
        "The largest difference between two logits of small random models, float32, batch size 1.",
        matrix,
    ),
    "windows_and_groups.json": (
        "Long texts and many labels",
        "Macro-F1 of the best label of each text. Speed is not compared here.",
        windows_and_groups,
    ),
    "embedded.json": ("How good the embedded model is", "Macro-F1 of the best label of each text.", quality),
    "few_shot.json": ("Eight examples of each label", "Macro-F1: the mean of the draws, and their range.", quality),
    "recipes.json": (
        "Recipes for the embedded model",
        "Macro-F1 on sets that were not trained on (their train splits); each recipe changes one thing about the "
        "embedded model's, and each training reads as many texts. What is within 0.01 may be chance.",
        recipes,
    ),
    "embedded_trainings.json": ("The trainings that the embedded model is the average of", "", trainings),
    "calibration.json": ("Calibration", "A temperature for each label, fitted on other texts.", calibration),
    "ppo_simulated.json": (
        "Learning from feedback, simulated",
        "The truth is known and hidden: only decisions that were made are rewarded. Mean and range of the seeds.",
        simulated,
    ),
}
