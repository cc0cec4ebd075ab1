"""Batch runner: inputs in batches of like length on the device, whose logits come back when all have run."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gliclass_spark.inference.batching import MicroBatch, micro_batches
from gliclass_spark.inference.device import is_out_of_memory
from gliclass_spark.inference.padding import pad
from gliclass_spark.inference.results import FloatArray, Usage
from gliclass_spark.inference.runners.runner import ModelRunner
from gliclass_spark.inference.tokenization import ModelInput


@dataclass(frozen=True)
class PendingLogits:
    """Logits of inputs, which a GPU may still be computing.

    batches: the positions of each batch's inputs, and their logits (inputs, labels) on the processor.
    done: the event behind the last copy from a GPU; None on a processor, which has computed them.
    usage: tokens and padding of the batches that run, and the seconds that it took to start them.
    """

    inputs: Sequence[ModelInput]
    batches: Sequence[tuple[MicroBatch, Tensor]]
    done: torch.cuda.Event | None
    usage: Usage

    def result(self) -> list[FloatArray | None]:
        """Wait, and return the logits (labels of its frame,) of each input; None for one that did not fit."""
        if self.done is not None:
            self.done.synchronize()
        logits: list[FloatArray | None] = [None] * len(self.inputs)
        for batch, batch_logits in self.batches:
            for position, row in zip(batch.positions, batch_logits.numpy(), strict=True):
                logits[position] = row[: len(self.inputs[position].frame.labels)]
        return logits


class BatchRunner:
    """Runs a model on inputs of any number and length. A thread at a time: others wait."""

    def __init__(self, runner: ModelRunner, device: torch.device, max_batch_tokens: int, pad_id: int) -> None:
        self._runner = runner
        self._device = device
        self._max_batch_tokens = max_batch_tokens
        self._pad_id = pad_id
        self._lock = threading.Lock()

    def start(self, inputs: Sequence[ModelInput]) -> PendingLogits:
        """Run inputs in batches of like length. A GPU gets all of them at once, and none is waited for.

        A batch that does not fit into the device's memory runs in halves; an input that does not fit alone is left out.
        """
        lengths = [len(model_input) for model_input in inputs]
        pending = list(micro_batches(lengths, self._max_batch_tokens))
        pending.reverse()
        batches: list[tuple[MicroBatch, Tensor]] = []
        usage = Usage()
        started = time.perf_counter()
        with self._lock:
            while pending:
                batch = pending.pop()
                batch_inputs = [inputs[position] for position in batch.positions]
                logits = self._try_forward(batch_inputs, batch.tokens)
                if logits is not None:
                    batches.append((batch, logits))
                    tokens = sum(map(len, batch_inputs))
                    usage += Usage(tokens=tokens, padding=batch.tokens * len(batch_inputs) - tokens)
                elif len(batch_inputs) > 1:
                    pending += reversed(batch.halves(lengths))
            done = self._event()
        return PendingLogits(inputs, batches, done, usage + Usage(seconds=time.perf_counter() - started))

    def _try_forward(self, inputs: Sequence[ModelInput], tokens: int) -> Tensor | None:
        """Return what `_forward` does, or None if the device runs out of memory."""
        try:
            return self._forward(inputs, tokens)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Only behind the except block: the error holds the frames of the failed pass, and these its tensors.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    @torch.inference_mode()
    def _forward(self, inputs: Sequence[ModelInput], tokens: int) -> Tensor:
        """Pad inputs to `tokens` and return logits (inputs, labels); see `ModelRunner.logits`.

        Those of a GPU arrive on the processor later, in pinned memory: none of its own is kept for results.
        """
        rows = [model_input.input_ids for model_input in inputs]
        input_ids, attention_mask = pad(rows, tokens, self._pad_id, self._device)
        frames = [model_input.frame for model_input in inputs]
        logits = self._runner.logits(input_ids, attention_mask, frames, sum(map(len, rows)))
        return logits.float().to("cpu", non_blocking=True)

    def _event(self) -> torch.cuda.Event | None:
        if self._device.type != "cuda":
            return None
        with torch.cuda.device(self._device):
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        return event
