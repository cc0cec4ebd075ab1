"""Training on simulated feedback, where the truth is known but hidden: supervised training, then PPO.

    python benchmarks/ppo_simulated.py DATA --replay FOLDER [--sets NAME,NAME] [--seeds 5] [--processes 1]

DATA is a folder of tables with the columns text, labels and split. The embedded model tags texts of the train split;
each label that it gives has a reward of 1 if it holds and -1 if not, and labels that it does not give have none. With
exploration the labels of a share of the documents are drawn from the scores. Macro-F1 and reward are those of the
labels over 0.5 on texts of the test split. Forgetting shows on the other sets of DATA: the mean macro-F1 of the best
label, zero-shot. FOLDER has the sets that one variant replays; none of DATA may be among them. PPO continues from the
supervised checkpoint: "supervised, longer" trains on judgements alone, for as many updates as both together. "in pairs"
joins each two texts of the set, with the labels of both, so that a text has several. Seeds in the result file, of the
same model, are not repeated.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
import multiprocessing
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.retraining import Ppo, Supervised
from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.checkpoint import load
from gliclass_spark.retraining.f1_statistics import macro_f1
from gliclass_spark.retraining.gate_comparison import EvaluationSet, assign_labels
from gliclass_spark.retraining.steps import supervised_training
from gliclass_spark.training import ppo
from gliclass_spark.training.data.feedback_batches import JudgedBatches, LoggedBatches
from gliclass_spark.training.data.labelled_text import LabelledSet, read_sets
from gliclass_spark.training.data.logged_decisions import LoggedDecisions
from gliclass_spark.training.evaluation.evaluate import sample, score
from gliclass_spark.training.supervised import train_on

SUPERVISED = Supervised(steps=40, texts=16, max_text_tokens=64)
PPO = Ppo(steps=40, texts=16, max_text_tokens=64)
TEST_TEXTS = 400
OTHER_TEXTS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--replay", type=Path, required=True)
    parser.add_argument("--sets", default="trec6")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=800)
    parser.add_argument("--exploration", type=float, default=0.2)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    path = options.out / "ppo_simulated.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    model = resolve_model("embedded").digest
    results["rows"] = [row for row in results["rows"] if results.get("model") == model]
    done = {(row["set"], row["seed"]) for row in results["rows"]}
    settings = {name: getattr(options, name) for name in ("documents", "exploration")}
    settings |= {"supervised": SUPERVISED.model_dump(mode="json"), "ppo": PPO.model_dump(mode="json")}
    replay = read_sets(options.replay)
    with ProcessPoolExecutor(options.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        pending = {
            pool.submit(run, task, replay, options.exploration): {"set": task.name, "seed": task.seed}
            for task in tasks(options)
            if (task.name, task.seed) not in done
        }
        for work in as_completed(pending):
            rows = [*results["rows"], *({**pending[work], **row} for row in work.result())]
            results = {
                "machine": machine.describe(),
                "device": machine.device(),
                "model": model,
                **settings,
                "rows": rows,
            }
            path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
            print("{set}, seed {seed}".format(**pending[work]), flush=True)
    show(results["rows"], Console(width=130))


@dataclass(frozen=True)
class Evaluation:
    """Test texts of the set that is trained on, and of the other sets."""

    own: LabelledSet
    others: Sequence[LabelledSet]

    def quality(self, engine: Engine) -> dict[str, float]:
        """Return macro_f1, the mean reward of a text, and the mean macro-F1 of the other sets."""
        label_set = LabelSet.of(*self.own.labels, name=self.own.name)
        truth = EvaluationSet.of_labelled(self.own, label_set)
        labels = assign_labels(engine.scores(self.own.texts, label_set), label_set)
        reward = np.where(labels, np.where(truth.targets > 0, 1.0, -1.0), 0.0).sum(axis=1).mean()
        others = statistics.mean(score(engine, each, name="").macro_f1 for each in self.others)
        return {"macro_f1": float(macro_f1(labels, truth.targets)), "reward": float(reward), "others": others}


@dataclass(frozen=True)
class Task:
    """Documents of one set that are tagged, and the texts to evaluate on."""

    name: str
    seed: int
    documents: LabelledSet
    evaluation: Evaluation


def tasks(options: argparse.Namespace) -> Iterator[Task]:
    tests = {each.name: each for each in read_sets(options.data, "test")}
    train_sets = {each.name: each for each in read_sets(options.data, "train")}
    for name in options.sets.split(","):
        others = [sample(each, OTHER_TEXTS) for each in tests.values() if each.name != name]
        for seed in range(options.seeds):
            documents, own = sample(train_sets[name], options.documents, seed), sample(tests[name], TEST_TEXTS)
            yield Task(name, seed, documents, Evaluation(own, others))
            pairs = in_pairs(sample(train_sets[name], 2 * options.documents, seed))
            yield Task(
                f"{name} in pairs", seed, pairs, Evaluation(in_pairs(sample(tests[name], 2 * TEST_TEXTS)), others)
            )


def in_pairs(labelled: LabelledSet) -> LabelledSet:
    """Return each two texts joined, with the labels of both; the last of an odd number is left out."""
    rows = range(0, len(labelled) - 1, 2)
    texts = tuple(f"{labelled.texts[row]} {labelled.texts[row + 1]}" for row in rows)
    targets = tuple(tuple(sorted({*labelled.targets[row], *labelled.targets[row + 1]})) for row in rows)
    return LabelledSet(labelled.name, labelled.labels, texts, targets)


def run(task: Task, replay: Sequence[LabelledSet], exploration: float) -> list[dict[str, Any]]:
    """Return one row for each variant."""
    torch.set_num_threads(1)
    documents, evaluation, seed = task.documents, task.evaluation, task.seed
    label_set = LabelSet.of(*documents.labels, name=documents.name)
    champion = Engine.from_pretrained("embedded")
    rows = [{"variant": "before", **evaluation.quality(champion)}]
    scores = champion.scores(documents.texts, label_set)
    for share, replayed, suffix in (
        (0.0, (), ", no exploration"),
        (exploration, (), ", exploration"),
        (exploration, replay, ", exploration and replay"),
    ):
        decisions = simulate_feedback(documents, label_set, scores, share, seed)
        with tempfile.TemporaryDirectory() as folder:
            for variant, engine, facts in candidates(decisions, replayed, Path(folder), seed):
                rows.append({"variant": f"{variant}{suffix}", **evaluation.quality(engine), **facts})
    return rows


def simulate_feedback(
    documents: LabelledSet, label_set: LabelSet, scores: Any, exploration: float, seed: int
) -> LoggedDecisions:
    """Return the champion's decisions and their rewards; of labels that it did not give nothing is known."""
    rng = np.random.default_rng((seed, 7))
    truth = EvaluationSet.of_labelled(documents, label_set).targets > 0
    explored = rng.random((len(documents), 1)) < exploration
    by_threshold = scores >= 0.5
    actions = np.where(explored, rng.random(scores.shape) < scores, by_threshold)
    rewards = np.where(actions, np.where(truth, 1.0, -1.0), np.nan).astype(np.float32)
    propensities = (1 - exploration) * by_threshold + exploration * scores
    unknown = np.full(scores.shape, np.nan, dtype=np.float32)
    targets = np.where(actions, truth, -1).astype(np.float32)
    return LoggedDecisions(
        label_set,
        documents.texts,
        targets,
        rewards,
        actions.astype(np.float32),
        propensities.astype(np.float32) if exploration else unknown,
        held_out=np.zeros(len(documents), dtype=bool),
    )


def candidates(
    decisions: LoggedDecisions, replay: Sequence[LabelledSet], folder: Path, seed: int
) -> Iterator[tuple[str, Engine, dict[str, float]]]:
    """Yield name, engine and further figures of each: supervised, PPO after it, and supervised for longer."""
    start = train_supervised(decisions, replay, SUPERVISED, folder / "supervised", seed)
    yield "supervised", Engine.from_pretrained(str(start)), {}
    policy = load(resolve_model(str(start)))
    effective_sizes: list[float] = []
    logged = LoggedBatches(decisions, texts=PPO.texts, size=999, seed=seed)

    def on_step(step: int, metrics: ppo.Metrics) -> None:
        effective_sizes.extend(value for name, value in metrics.items() if name == "effective_sample_size")

    ppo.train(
        policy.model,
        policy.tokenizer,
        ppo.Sources(judged_batches(decisions, replay, seed), logged),
        PPO,
        folder / "ppo",
        seed=seed,
        label_set=decisions.label_set,
        on_step=on_step,
    )
    yield (
        "PPO",
        Engine.from_pretrained(str(folder / "ppo")),
        {"effective_sample_size": statistics.mean(effective_sizes)},
    )
    updates = SUPERVISED.model_copy(update={"steps": SUPERVISED.steps + PPO.steps * PPO.epochs})
    longer = train_supervised(decisions, replay, updates, folder / "longer", seed)
    yield "supervised, longer", Engine.from_pretrained(str(longer)), {}


def judged_batches(decisions: LoggedDecisions, replay: Sequence[LabelledSet], seed: int) -> JudgedBatches:
    return JudgedBatches(
        decisions,
        replay,
        texts=SUPERVISED.texts,
        replay_share=SUPERVISED.replay_share,
        max_weight=SUPERVISED.max_weight,
        size=999,
        seed=seed,
    )


def train_supervised(
    decisions: LoggedDecisions, replay: Sequence[LabelledSet], config: Supervised, folder: Path, seed: int
) -> Path:
    start, training = load(resolve_model("embedded")), supervised_training(config, seed)
    return train_on(judged_batches(decisions, replay, seed), start.model, start.tokenizer, training, folder)


def show(rows: Sequence[dict[str, Any]], console: Console) -> None:
    groups: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["set"], row["variant"]].append(row)
    table = Table(title="training on feedback: mean (lowest to highest) of the seeds")
    for heading in ("set", "variant", "seeds", "macro-F1", "reward a text", "other sets"):
        table.add_column(heading, justify="left" if heading in ("set", "variant") else "right")
    for name in dict.fromkeys(row["set"] for row in rows):
        for variant in dict.fromkeys(row["variant"] for row in rows):
            group = groups[name, variant]
            cells = [spread([row[key] for row in group]) for key in ("macro_f1", "reward", "others")]
            table.add_row(name, variant, str(len(group)), *cells)
    console.print(table)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
