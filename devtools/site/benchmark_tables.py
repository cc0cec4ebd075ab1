"""Benchmark tables: each kind of result file as Markdown tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import Any

Row = Sequence[object]


def table(head: Row, rows: Iterable[Row], text_columns: int = 1) -> str:
    """Return a Markdown table. Its first `text_columns` columns are left-aligned, the others right-aligned."""
    rule = ["---" if column < text_columns else "---:" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, rule, *rows))


def _spread(summary: dict[str, float], digits: int = 2) -> str:
    low = summary.get("min", summary.get("smallest"))
    high = summary.get("max", summary.get("largest"))
    return f"{summary['median']:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def throughput(result: Any) -> str:
    """Print a table for each model."""
    parts = []
    for model in result["models"]:
        rows = [
            (
                row["contender"],
                _spread(row["of_default"]),
                _spread(row["of_best"]),
                f"{row['texts_per_s']:.1f}",
                f"{row['share_of_matrix_rate']['median']:.0%}" if "share_of_matrix_rate" in row else "",
                f"{row['largest_score_difference']:.1e}" if "largest_score_difference" in row else "",
                f"{row.get('peak_rss_mib', row.get('gpu_mib_beyond_weights')):.0f}"
                if "peak_rss_mib" in row or "gpu_mib_beyond_weights" in row
                else "",
            )
            for row in model["contenders"]
        ]
        head = ("times its default", "times its best", "texts/s", "of matrix rate", "differs by", "MiB")
        texts = model["texts"]
        introduction = f"{texts['count']} texts of {texts['median_tokens']:.0f} tokens (median, labels included)."
        parts.append(f"{introduction}\n\n{table((model['model'], *head), rows)}")
    return "\n\n".join(parts)


def spark_share(result: Any) -> str:
    rows = [
        (job, part, f"{median(values):.2f}", ", ".join(f"{share:.2f}" for share in values))
        for job, shares in result["shares"].items()
        for part, values in shares.items()
    ]
    return table(("", "share", "median", "each round"), rows)


def run_overhead(result: Any) -> str:
    rows = [
        (f"{int(documents):,}", len(runs), *(f"{fmean(run[step] for run in runs):.1f}" for step in _STEPS))
        for documents, runs in result["seconds"].items()
    ]
    introduction = f"A run that adds {result['new_documents']:,} documents; mean seconds. The ratio of the last row to "
    introduction += f"the first is {_spread(result['ratio'])}."
    return f"{introduction}\n\n{table(('documents before', 'runs', *_STEPS), rows)}"


_STEPS = ("total", "tag", "filter", "route")


def labels(result: Any) -> str:
    rows = [
        (row["attention"], row["labels"], f"{row['texts_per_s']:.1f}", _spread(row["of_one_label"]))
        for row in result["rows"]
        if "of_one_label" in row
    ]
    return table(("attention", "labels", "texts/s", "of the speed with one label"), rows)


def quality(result: Any) -> str:
    """Print the macro-F1 of each contender on each set: the mean and range of several seeds."""
    scores = [row for part in result for row in part["scores"]] if isinstance(result, list) else result["scores"]
    contenders = list(dict.fromkeys((row["contender"], row["shots"]) for row in scores))
    cells: defaultdict[tuple[str, tuple[str, int]], list[float]] = defaultdict(list)
    for row in scores:
        cells[row["name"], (row["contender"], row["shots"])].append(row["macro_f1"])
    sizes = {row["name"]: (row["labels"], row["rows"]) for row in scores}
    rows = [
        (name, *size, *(_of_seeds(cells[name, contender]) for contender in contenders)) for name, size in sizes.items()
    ]
    means = (_of_seeds([fmean(cells[name, contender]) for name in sizes], mean_only=True) for contender in contenders)
    head = [f"{name}, {shots} examples a label" if shots else name for name, shots in contenders]
    return table(("set", "labels", "texts", *head), [*rows, ("**mean**", "", "", *means)])


def _of_seeds(values: Sequence[float], mean_only: bool = False) -> str:
    if not values:
        return ""
    spread = "" if len(values) == 1 or mean_only else f" ({min(values):.3f}-{max(values):.3f})"
    return f"{fmean(values):.3f}{spread}"


def precisions(result: Any) -> str:
    """Print macro-F1 of each precision on each set, and the share of the labels that float32 decides otherwise."""
    names = list(result["means"])
    by_set: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in result["sets"]:
        by_set[row["name"]].append(row)
    rows = [
        (
            name,
            of_set[0]["labels"],
            of_set[0]["texts"],
            *(f"{row['macro_f1']:.4f} ({row['changed']:.2%})" for row in of_set),
        )
        for name, of_set in by_set.items()
    ]
    means = (f"{mean['macro_f1']:.4f} ({mean['changed']:.2%})" for mean in result["means"].values())
    every = (f"({mean['changed_of_all_labels']:.2%})" for mean in result["means"].values())
    last_rows = [("**mean**", "", "", *means), ("of all labels", "", "", *every)]
    return table(("set", "labels", "texts", *names), [*rows, *last_rows])


def int8_ways(result: Any) -> str:
    rows = [
        (row["case"], row["way"], _spread(row["speedup"]), f"{row['error']:.1e}", f"{row['company']:.1e}")
        for row in result["rows"]
    ]
    return table(("", "", "times torch's float32", "error", "company"), rows, text_columns=2)


def recipes(result: Any) -> str:
    """Print a table for each device and number of texts, best recipe first."""
    parts = []
    for device, texts in dict.fromkeys((row["device"], row["texts"]) for row in result):
        rows = [row for row in result if (row["device"], row["texts"]) == (device, texts)]
        parts.append(f"{texts:,} texts, on {device}:\n\n{by_recipe(rows)}")
    return "\n\n".join(parts)


def by_recipe(result: Any) -> str:
    """Print a table of recipes, the best first."""
    runs_by_recipe: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in result:
        runs_by_recipe[row["recipe"]].append(row)
    sets = result[0]["scores"]
    rows = [
        (
            name,
            len(runs),
            _of_seeds([run["mean"] for run in runs]),
            *(_of_seeds([run["scores"][name_of_set] for run in runs], mean_only=True) for name_of_set in sets),
        )
        for name, runs in sorted(runs_by_recipe.items(), key=lambda item: -fmean(run["mean"] for run in item[1]))
    ]
    return table(("recipe", "seeds", "**mean**", *sets), rows)


def trainings(result: Any) -> str:
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
        for row in result["rows"]
    ]
    head = ("seed", "labels", "texts", "rate", "tokens", "more data", "steps", "macro-F1, rows a set", "averaged")
    return f"Evaluated on {result['evaluated_on']}.\n\n{table(head, rows, text_columns=2)}"


def calibration(result: Any) -> str:
    columns = ("before", "one_temperature", "after", "after_100")
    rows = [
        (
            name,
            row["labels"],
            row["evaluated_on"],
            *(_errors(row[column]) for column in columns),
            *map(_errors, row["sampling_alone"].values()),
        )
        for name, row in result["sets"].items()
    ]
    fits = ("before", "one temperature", "slope and bias", "slope and bias, of 100 texts")
    return table(
        ("set", "labels", "texts", *fits, "sampling alone: perfect scores", "base rates of 100 texts"),
        rows,
    )


def default_threshold(result: Any) -> str:
    ways = list(next(iter(result["sets"].values())))
    measures = ("precision", "recall", "f1", "calibration_error", "softmax_calibration_error")
    rows = [
        (name, *(", ".join(f"{each[way][measure]:.3f}" for measure in measures) for way in ways))
        for name, each in result["sets"].items()
    ]
    means = (
        ", ".join(f"{fmean(each[way][measure] for each in result['sets'].values()):.3f}" for measure in measures)
        for way in ways
    )
    return table(("set", *ways), [*rows, ("**mean**", *means)])


def _errors(errors: Any) -> str:
    return f"{errors['pooled']:.3f} / {errors['labels']:.3f}"


def learned_from_rewards(result: Any) -> str:
    values: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in result["rows"]:
        values[row["rewards"], row["way"], row["set"]].append(row["value"])
    sets = list(dict.fromkeys(row["set"] for row in result["rows"]))
    ways = dict.fromkeys((kind, way) for kind, way, _ in values)
    rows = [(*key, *(_of_seeds(values[*key, name]) for name in sets)) for key in ways]
    return table(("rewards of", "way", *sets), rows, text_columns=2)


def explored(result: Any) -> str:
    head = ("set", "share", "way", "bias", "standard deviation", "explored judgements", "cost of an explored document")
    rows = [
        (
            row["set"],
            row["share"],
            row["way"],
            f"{row['bias']:+.3f}",
            f"{row['standard_deviation']:.3f}",
            round(row["explored_judgements"]),
            f"{row['cost_of_an_explored_document']:.2f}",
        )
        for row in result["rows"]
    ]
    return table(head, rows, text_columns=3)


def matrix(result: Any) -> str:
    rows = [
        (row["architecture"], row["backbone"], row["configurations"], f"{row['largest_difference']:.0e}")
        for row in result["rows"]
    ]
    every = "All" if result["every"] == 1 else f"Every {result['every']}th of the"
    over = len(result["over_tolerance"])
    introduction = f"{every} configurations, {result['configurations']:,}: the largest difference is "
    introduction += (
        f"{result['largest_difference']:.1e}; {over or 'none'} exceeds the tolerance of {result['tolerance']:.0e}."
    )
    head = ("architecture", "backbone", "configurations", "largest difference")
    return f"{introduction}\n\n{table(head, rows, text_columns=2)}"


def windows_and_groups(result: Any) -> str:
    parts = (
        (
            "Labels in one prompt and in groups, with the first version of the embedded model, a uni-encoder.",
            "groups",
        ),
        ("Texts longer than the window: truncated, or split into windows.", "windows"),
    )
    return "\n\n".join(f"{introduction}\n\n{quality({'scores': result[key]})}" for introduction, key in parts)


def base_size(result: Any) -> str:
    """Print a table for each backbone: texts/s by number of labels, and the share kept with the most labels."""
    parts = []
    for backbone in dict.fromkeys(row["backbone"] for row in result["rows"]):
        rows_of_backbone = [row for row in result["rows"] if row["backbone"] == backbone]
        counts = sorted({row["labels"] for row in rows_of_backbone})
        speed = {(row["contender"], row["labels"]): f"{row['texts_per_s']:.1f}" for row in rows_of_backbone}
        kept = {
            row["contender"]: _spread(row["of_one_label"])
            for row in rows_of_backbone
            if row["labels"] == counts[-1] and row["of_one_label"]
        }
        allowed = {
            row["contender"]: f"{row['tokens_allow']:.2f}"
            for row in rows_of_backbone
            if row["labels"] == counts[-1] and row.get("tokens_allow")
        }
        rows = [
            (name, *(speed.get((name, count), "") for count in counts), kept.get(name, ""), allowed.get(name, ""))
            for name in dict.fromkeys(row["contender"] for row in rows_of_backbone)
        ]
        labels_of = (f"{count} label{'s' * (count > 1)}" for count in counts)
        head = (backbone, *labels_of, f"kept at {counts[-1]}", "tokens allow")
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def plain(result: Any) -> str:
    """Print the rows of a file without a printer of its own, if they are flat."""
    rows = result.get("rows") if isinstance(result, dict) else result
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return ""
    names = [name for name, value in rows[0].items() if isinstance(value, (str, int, float))]
    shown = [[_shown(row.get(name, "")) for name in names] for row in rows]
    return table(names, shown) if names else ""


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
