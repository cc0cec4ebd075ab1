"""The engine against the pipeline of the `gliclass` library: same weights, texts and labels, interleaved.

    python benchmarks/engine.py [--model joint|FOLDER] [--texts N] [--rounds R] [--threads T] [--out FOLDER]

On the CPU. The library loads published layouts only: "joint" is the embedded model's encoder in one of them, before any
training; speed does not depend on the weights. benchmarks/README.md explains the output.
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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import corpus
import machine
import numpy as np
import torch
from gliclass import GLiClassModel as ReferenceModel  # type: ignore[import-untyped]
from gliclass import ZeroShotClassificationPipeline
from memory import LABELS
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rounds import shown, spread
from transformers import AutoTokenizer

from gliclass_spark.inference.device import Precision, native_bfloat16
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import FloatArray, Usage
from gliclass_spark.model import checkpoint
from gliclass_spark.model.configuration import UniEncoderConfig
from gliclass_spark.model.prompts.text_tokenizer import LABEL_TOKEN, SEP_TOKEN
from gliclass_spark.training.from_encoder import untrained_model

SEED = 0
JOINT = "joint"
REFERENCE_BATCH_SIZE = 8  # the pipeline's default
REFERENCE_BATCH_SIZES: dict[Precision, tuple[int, ...]] = {
    "float32": (REFERENCE_BATCH_SIZE, 32),
    "bfloat16": (REFERENCE_BATCH_SIZE,),
}
AGREEMENT_TEXTS = 50
# Backbones whose layers are query, key, value, output and two feed-forward matrices, and nothing else.
COUNTED_BACKBONES = ("bert", "roberta", "xlm-roberta", "electra")


@dataclass(frozen=True)
class Contender:
    """A way to score all texts."""

    name: str
    dtype: torch.dtype
    call: Callable[[], object]
    engine: Engine | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=JOINT, help=f"{JOINT}, or the folder of a published checkpoint")
    parser.add_argument("--texts", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ.setdefault("RAYON_NUM_THREADS", str(options.threads))  # read by the tokenizer
    with tempfile.TemporaryDirectory() as folder:
        model = options.model
        if model == JOINT:
            model = str(checkpoint.save(*untrained_model("joint"), folder))
        result = measure(model, options.texts, options.rounds, options.threads)
    result = {"model": Path(options.model).name, **result}
    show(result, Console(width=None if sys.stdout.isatty() else 140))
    path = options.out / f"{slug(result)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def measure(model: str, text_count: int, rounds: int, threads: int) -> dict[str, Any]:
    precisions: list[Precision] = ["float32"]
    if native_bfloat16(torch.device("cpu")):
        precisions.append("bfloat16")
    memory: dict[str, float] = {precision: peak_memory_mib(model, precision, threads) for precision in precisions}
    engines = {precision: Engine.from_pretrained(model, device="cpu", precision=precision) for precision in precisions}
    config = UniEncoderConfig.from_dict(json.loads(Path(model, "config.json").read_text(encoding="utf-8")))
    tokenizer = AutoTokenizer.from_pretrained(model)
    pipelines = {precision: reference(model, tokenizer, precision) for precision in precisions}
    texts = cut_to_window(corpus.texts(text_count, SEED), tokenizer, engines["float32"].max_length)

    unpadded = reference_scores(pipelines["float32"], texts[:AGREEMENT_TEXTS])
    usages: dict[str, Usage] = {precision: engine.run(texts, LABELS).usage for precision, engine in engines.items()}
    counts = engines["float32"].run(texts, LABELS).token_counts
    prompt = (usages["float32"].tokens - int(counts.sum())) // len(texts)
    flops = flop_count([int(count) + prompt for count in counts], config)

    contenders = []
    for precision, pipeline in pipelines.items():
        for size in REFERENCE_BATCH_SIZES[precision]:
            name = f"gliclass {precision}, batch {size}"
            contenders.append(Contender(name, dtype_of(precision), partial(pipeline, texts, LABELS, batch_size=size)))
    for precision, engine in engines.items():
        contenders.append(
            Contender(f"engine {precision}", dtype_of(precision), partial(engine.run, texts, LABELS), engine)
        )
    seconds, rates = interleaved(contenders, rounds)
    baseline_seconds = seconds[contenders[0].name]
    rows = []
    for contender in contenders:
        taken = seconds[contender.name]
        row: dict[str, Any] = {
            "name": contender.name,
            "speedup": spread([baseline / own for baseline, own in zip(baseline_seconds, taken, strict=True)]),
            "texts_per_s": len(texts) / statistics.median(taken),
            "tokens_per_s": usages["float32"].tokens / statistics.median(taken),
            "seconds": taken,
        }
        if contender.engine is not None:
            name = str(contender.dtype).removeprefix("torch.")
            row |= engine_figures(contender.engine, usages[name], unpadded, texts)
            row["peak_rss_mib"] = memory[name]
            row["matrix_gflop_per_s"] = statistics.median(rates[contender.name]) / 1e9
            if flops is not None:
                shares = [flops / s / rate for s, rate in zip(taken, rates[contender.name], strict=True)]
                row["share_of_matrix_rate"] = spread(shares)
        rows.append(row)
    return {
        "threads": threads,
        "rounds": rounds,
        "machine": machine.describe(),
        "texts": {
            "count": len(texts),
            "labels": len(LABELS),
            "tokens": usages["float32"].tokens,
            "longest_tokens": int(counts.max()) + prompt,
            "gflop": None if flops is None else flops / 1e9,
            "digest": corpus.digest(texts),
            "reference_padding_share": reference_padding(counts + prompt),
        },
        "contenders": rows,
    }


def reference(folder: str, tokenizer: Any, precision: Precision) -> ZeroShotClassificationPipeline:
    """Return the library's pipeline, built as in its README, with the whole model in this precision."""
    model = ReferenceModel.from_pretrained(folder).to(dtype_of(precision))
    return ZeroShotClassificationPipeline(model, tokenizer, device="cpu", progress_bar=False)


def reference_scores(pipeline: ZeroShotClassificationPipeline, texts: list[str]) -> FloatArray:
    """Return the library's scores (texts, labels) at batch size 1: padding changes them."""
    predictions = pipeline(texts, LABELS, threshold=0.0, batch_size=1)
    return np.array([[label["score"] for label in text] for text in predictions], dtype=np.float32)


def engine_figures(engine: Engine, usage: Usage, reference: FloatArray, texts: list[str]) -> dict[str, Any]:
    scores = engine.scores(texts, LABELS)[: len(reference)]
    return {
        "engine": repr(engine),
        "padding_share": usage.padding_share,
        "largest_score_difference": float(np.abs(scores - reference).max()),
    }


def interleaved(contenders: list[Contender], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the seconds of each contender in each round, and the machine's matrix rate just before."""
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in track(range(rounds), description="rounds", transient=True):
        for contender in contenders:
            rates[contender.name].append(machine.matrix_rate(contender.dtype))
            started = time.perf_counter()
            contender.call()
            seconds[contender.name].append(time.perf_counter() - started)
    return seconds, rates


def cut_to_window(texts: list[str], tokenizer: Any, window: int) -> list[str]:
    """Cut each text to the window, so that both sides score the same tokens."""
    prompt = "".join(LABEL_TOKEN + label for label in LABELS) + SEP_TOKEN
    cut = []
    for text in texts:
        words = text.split()
        while (tokens := len(tokenizer(prompt + " ".join(words)).input_ids)) > window:
            words = words[: len(words) * window // tokens]
        cut.append(" ".join(words))
    return cut


def flop_count(lengths: Sequence[int], config: UniEncoderConfig) -> float | None:
    """Return the floating-point operations of the matrix products for unpadded inputs of these lengths (tokens).

    None for a backbone with other layers.
    """
    encoder = config.encoder_config
    if encoder.model_type not in COUNTED_BACKBONES:
        return None
    hidden, inner = encoder.hidden_size, encoder.intermediate_size
    tokens, pairs = sum(lengths), sum(length**2 for length in lengths)
    linears = 2 * tokens * (4 * hidden**2 + 2 * hidden * inner)
    attention = 4 * pairs * hidden
    projections = 4 * hidden * config.hidden_size * len(lengths) * (1 + len(LABELS))
    return float(encoder.num_hidden_layers * (linears + attention) + projections)


def reference_padding(lengths: np.ndarray[Any, Any]) -> float:
    batches = [lengths[i : i + REFERENCE_BATCH_SIZE] for i in range(0, len(lengths), REFERENCE_BATCH_SIZE)]
    return float(1 - lengths.sum() / sum(batch.max() * len(batch) for batch in batches))


def peak_memory_mib(model: str, precision: Precision, threads: int) -> float:
    script = Path(__file__).with_name("memory.py")
    arguments = ["--model", model, "--precision", precision, "--threads", str(threads)]
    command = [sys.executable, str(script), *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])  # noqa: S603


def dtype_of(precision: Precision) -> torch.dtype:
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def slug(result: dict[str, Any]) -> str:
    about = result["machine"]
    name = f"{about['cpu']} {about['cores']} cores {result['threads']} threads {result['model']}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def show(result: dict[str, Any], console: Console) -> None:
    about, texts = result["machine"], result["texts"]
    title = f"{about['cpu']}, {about['cores']} cores, {result['threads']} threads, torch {about['torch']}"
    table = Table(title=title)
    for heading in ("", "times as fast", "texts/s", "tokens/s", "of matrix rate", "padding", "differs by", "RSS, MiB"):
        table.add_column(heading, no_wrap=True)
    for row in result["contenders"]:
        cells = [row["name"], shown(row["speedup"], ".2f"), f"{row['texts_per_s']:.1f}", f"{row['tokens_per_s']:.0f}"]
        if "engine" in row:
            share = row.get("share_of_matrix_rate")
            cells += [
                shown(share, ".0%") if share else "not counted",
                f"{row['padding_share']:.1%}",
                f"{row['largest_score_difference']:.1e}",
                f"{row['peak_rss_mib']:.0f}",
            ]
        table.add_row(*cells)
    table.caption = (
        f"{texts['count']} texts, {texts['labels']} labels, {texts['tokens']} tokens, {result['rounds']} rounds; "
        f"the reference pads {texts['reference_padding_share']:.0%} at batch {REFERENCE_BATCH_SIZE}, its default"
    )
    console.print(table)


if __name__ == "__main__":
    main()
