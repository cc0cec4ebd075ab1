"""Throughput from strings to scores: the engine against the `gliclass` library, on the same weights and texts.

    python -m benchmarks.speed.throughput [--device cuda] [--texts N] [--rounds R] [--minutes M] [--threads T]
        [--only MODEL]

Texts of mixed lengths, ten labels; 2,000 texts on a processor, 20,000 on a GPU. Each round scores another part of the
texts by every contender, one after the other. --minutes: a model that has used its share of them begins no other round.
Writes results/throughput-DEVICE.json. benchmarks/README.md explains the output.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer
from transformers.utils import logging

from benchmarks import machine
from benchmarks.folders import RESULTS
from benchmarks.speed import base_models, contenders, corpus, memory, rounds
from benchmarks.speed.contenders import Contender
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.model import checkpoint
from gliclass_spark.model.configuration import UniEncoderConfig
from gliclass_spark.model.prompts.text_tokenizer import LABEL_TOKEN, SEP_TOKEN
from gliclass_spark.training.from_encoder import untrained_model

SEED = 0
SMALL = "embedded size"  # the embedded model's encoder in a published layout, which the library can load
EMBEDDED = "the embedded model itself"
MODELS = (SMALL, *base_models.BACKBONES)
WINDOW = 512
TEXTS = {"cpu": 2_000, "cuda": 20_000}
MINUTES = {"cpu": float("inf"), "cuda": 7.0}
# Texts to warm up on, and to choose the library's best batch size by.
SAMPLE = {"cpu": 12, "cuda": 512}
# TFLOP/s of dense products in half precision, from NVIDIA's data sheets, by the beginning of the device's name.
DATA_SHEET = {
    "NVIDIA H200 NVL": 835.0,
    "NVIDIA H200": 989.0,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H100 NVL": 835.0,
    "NVIDIA H100": 989.0,
    "NVIDIA A100": 312.0,
}
AGREEMENT_TEXTS = 20
PADDING_TEXTS = 200
MEMORY_TEXTS = 32


@dataclass
class Timing:
    """A contender's seconds in each round, the device's matrix rate right before, and the peak of its GPU memory."""

    seconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    gpu_mib: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--texts", type=int, help="default: 2,000 on a processor, 20,000 on a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="default: 7 on a GPU, no limit on a processor")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ.setdefault("RAYON_NUM_THREADS", str(options.threads))  # read by the tokenizer
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    kind = options.device.type
    models = [options.only] if options.only else MODELS
    limit_s = 60 * (options.minutes or MINUTES[kind]) / len(models)
    texts = corpus.texts(options.texts or TEXTS[kind], SEED)
    result: dict[str, Any] = {
        "machine": machine.describe(),
        **({"device": torch.cuda.get_device_name(options.device)} if kind == "cuda" else {}),
        "threads": options.threads,
        "models": [],
    }
    path = options.out / f"{slug(result)}.json"
    for model in models:
        result["models"].append(measure(model, texts, options, limit_s))
        # After each model: the machine may be taken back before the next one is done.
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        show(result["models"][-1], Console(width=None if sys.stdout.isatty() else 160))
    print(f"written to {path}")


def measure(model: str, texts: list[str], options: argparse.Namespace, limit_s: float) -> dict[str, Any]:
    """Measure one model: save it, load it in every contender, score part by part."""
    deadline = time.perf_counter() + limit_s
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "model")
        if model == SMALL:
            checkpoint.save(*untrained_model("joint"), folder)
        else:
            base_models.save_uni_encoder(model, folder)
        return compare(model, str(folder), texts, options, deadline)


def compare(model: str, folder: str, texts: list[str], options: argparse.Namespace, deadline: float) -> dict[str, Any]:
    device = options.device
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = "".join(LABEL_TOKEN + label for label in memory.LABELS) + SEP_TOKEN
    texts = corpus.cut_to_window(texts, prompt, tokenizer, WINDOW)
    lengths = [len(ids) for ids in tokenizer([prompt + text for text in texts]).input_ids]
    sample = texts[: SAMPLE[device.type]]
    all_contenders = [*contenders.library(folder, tokenizer, device, sample), *contenders.engines(folder, device)]
    if model == SMALL:
        all_contenders.append(contenders.engine(EMBEDDED, "embedded", "auto", device))
    timings, parts = interleaved(all_contenders, texts, sample, options, deadline)
    done = parts[-1].stop

    of_library = {name: timing.seconds for name, timing in timings.items() if name.startswith("gliclass")}
    default = next(iter(of_library))
    best = min(of_library, key=lambda name: sum(of_library[name]))
    config = UniEncoderConfig.from_dict(json.loads(Path(folder, "config.json").read_text(encoding="utf-8")))
    flops = [base_models.flop_count(lengths[part], config.encoder_config) for part in parts]
    expected = contenders.library_scores(folder, tokenizer, texts[:AGREEMENT_TEXTS])
    rows = []
    for contender in all_contenders:
        timing = timings[contender.name]
        row: dict[str, Any] = {
            "contender": contender.name,
            "of_default": rounds.ratio(of_library[default], timing.seconds),
            "of_best": rounds.ratio(of_library[best], timing.seconds),
            "texts_per_s": done / sum(timing.seconds),
            "tokens_per_s": sum(lengths[:done]) / sum(timing.seconds),
            "seconds": timing.seconds,
        }
        # The embedded model encodes the labels once, not with every text.
        if timing.rates and contender.name != EMBEDDED:
            row["matrix_tflop_per_s"] = statistics.median(timing.rates) / 1e12
            shares = [
                count / seconds / rate for count, seconds, rate in zip(flops, timing.seconds, timing.rates, strict=True)
            ]
            row["share_of_matrix_rate"] = rounds.spread(shares)
            peak = data_sheet_rate(device, contender.dtype)
            if peak:
                row["share_of_data_sheet"] = rounds.spread(
                    [count / seconds / peak for count, seconds in zip(flops, timing.seconds, strict=True)]
                )
        if contender.engine is not None:
            row |= engine_figures(contender.engine, None if contender.name == EMBEDDED else expected, texts)
        if device.type == "cuda":
            row["gpu_mib_beyond_weights"] = timing.gpu_mib
        elif contender.memory_options is not None:
            source = "embedded" if contender.name == EMBEDDED else folder
            threads = ("--threads", str(options.threads), "--texts", str(MEMORY_TEXTS))
            row["peak_rss_mib"] = memory.measured_mib("--model", source, *contender.memory_options, *threads)
        rows.append(row)
    return {
        "model": model,
        "rounds": len(parts),
        "default_of_library": default,
        "best_of_library": best,
        "texts": {
            "count": done,
            "labels": len(memory.LABELS),
            "tokens": sum(lengths[:done]),
            "median_tokens": statistics.median(lengths[:done]),
            "longest_tokens": max(lengths[:done]),
            "library_padding_share": library_padding(lengths[:done]),
            "digest": corpus.digest(texts[:done]),
        },
        "contenders": rows,
    }


def interleaved(
    all_contenders: Sequence[Contender],
    texts: list[str],
    sample: Sequence[str],
    options: argparse.Namespace,
    deadline: float,
) -> tuple[dict[str, Timing], list[slice]]:
    """Score one part of the texts a round by every contender, and return the timings and the parts.

    Every second round has the reverse order: what the device's clock does in a round should not favour one of them.
    """
    for contender in all_contenders:
        contender.score(list(sample))
    timings = {contender.name: Timing() for contender in all_contenders}
    edges = np.linspace(0, len(texts), options.rounds + 1).astype(int).tolist()
    parts: list[slice] = []
    for number, (start, stop) in enumerate(pairwise(edges)):
        if parts and time.perf_counter() > deadline:
            break
        parts.append(slice(start, stop))
        for contender in all_contenders if number % 2 == 0 else all_contenders[::-1]:
            timing = timings[contender.name]
            if contender.dtype is not None:
                timing.rates.append(machine.matrix_rate(contender.dtype, options.device))
            with machine.gpu_peak(options.device) as peak:
                seconds = contenders.seconds_of(partial(contender.score, texts[start:stop]), options.device)
            timing.seconds.append(seconds)
            timing.gpu_mib = max(timing.gpu_mib, peak.mib)
    return timings, parts


def engine_figures(engine: Engine, expected: FloatArray | None, texts: Sequence[str]) -> dict[str, Any]:
    """Return the share of padding, and the largest difference of a score from the expected ones of the first texts."""
    results = engine.run(texts[:PADDING_TEXTS], memory.LABELS)
    figures: dict[str, Any] = {"engine": repr(engine), "padding_share": results.usage.padding_share}
    if expected is not None:
        figures["largest_score_difference"] = float(np.abs(results.scores[: len(expected)] - expected).max())
    return figures


def data_sheet_rate(device: torch.device, dtype: torch.dtype | None) -> float | None:
    """Return the FLOP/s of the GPU's matrix products in half precision, or None where they are not known."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return None
    name = torch.cuda.get_device_name(device)
    return next((1e12 * rate for beginning, rate in DATA_SHEET.items() if name.startswith(beginning)), None)


def library_padding(lengths: Sequence[int]) -> float:
    size = contenders.DEFAULT_BATCH_SIZE
    batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    return 1 - sum(lengths) / sum(max(batch) * len(batch) for batch in batches)


def slug(result: dict[str, Any]) -> str:
    about = result["machine"]
    device = result.get("device") or f"{about['cpu']} {about['cores']} cores {result['threads']} threads"
    return "throughput-" + re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def show(part: dict[str, Any], console: Console) -> None:
    texts = part["texts"]
    table = Table(title=f"{part['model']}: {texts['count']} texts, {texts['labels']} labels, {texts['tokens']} tokens")
    headings = ("", "times default", "times best", "texts/s", "of matrix rate", "of data sheet")
    for heading in (*headings, "padding", "differs by", "MiB"):
        table.add_column(heading, no_wrap=True)
    for row in part["contenders"]:
        share, of_peak = row.get("share_of_matrix_rate"), row.get("share_of_data_sheet")
        padding = row.get("padding_share")
        difference = row.get("largest_score_difference")
        mib = row.get("gpu_mib_beyond_weights", row.get("peak_rss_mib"))
        table.add_row(
            row["contender"],
            rounds.shown(row["of_default"], ".2f"),
            rounds.shown(row["of_best"], ".2f"),
            f"{row['texts_per_s']:.2f}",
            rounds.shown(share, ".0%") if share else "",
            rounds.shown(of_peak, ".0%") if of_peak else "",
            "" if padding is None else f"{padding:.1%}",
            "" if difference is None else f"{difference:.1e}",
            "" if mib is None else f"{mib:.0f}",
        )
    table.caption = (
        f"{part['rounds']} rounds; the library's default is {part['default_of_library']}, which pads "
        f"{texts['library_padding_share']:.0%}; its best is {part['best_of_library']}"
    )
    console.print(table)


if __name__ == "__main__":
    main()
