"""Ways to compute in 8-bit integers on a processor: torch's oneDNN operators, OpenVINO and ONNX Runtime.

    python -m benchmarks.numerics.int8_trial [--rounds R] [--threads T] [--out FOLDER]

The encoder of the embedded model, and the linear layers of one layer of a DeBERTa-v3 and a ModernBERT of base size,
with random weights, over five texts of 200 tokens. A way is left out if its packages are not installed: openvino and
nncf; onnx and onnxruntime. Writes results/int8_trial.json.

Times are the processor's, of all threads together: with one thread, other load on the machine hardly affects them.

error: of the outputs, relative to those in float32. company: the same error of the first text alone, relative to itself
among the others; a way for which it is not about zero would break "one text, one score".
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import copy
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertModel

from benchmarks import machine
from benchmarks.folders import RESULTS
from benchmarks.speed import rounds
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.allocator import keep_freed_memory
from gliclass_spark.inference.kernels.int8_linear import Int8Linear
from gliclass_spark.inference.kernels.linear import PackedLinear, concatenated_bias
from gliclass_spark.model.checkpoint import load
from gliclass_spark.model.encoders.bert import Bert, LinearFactory

TEXTS, TOKENS = 5, 200
EXACT = "torch float32"

Call = Callable[[Tensor], Tensor]


class IntMmLinear(Int8Linear):
    """The layer by torch._int_mm, whose product is not laid out in advance; symmetric activations."""

    def __init__(self, *linears: nn.Linear) -> None:
        weight = torch.cat([linear.weight for linear in linears])
        self._scales = weight.abs().amax(dim=1) / 127
        self._transposed = (weight / self._scales[:, None]).round().to(torch.int8).T
        self._bias = concatenated_bias(linears)

    def __call__(self, inputs: Tensor) -> Tensor:
        scales = torch.maximum(inputs.amax(dim=1, keepdim=True), -inputs.amin(dim=1, keepdim=True)) / 127
        product = torch._int_mm((inputs / scales).round_().to(torch.int8), self._transposed)
        return torch.addcmul(self._bias, product.float().mul_(self._scales), scales)


@dataclass(frozen=True)
class Case:
    """What is computed.

    module: by torch alone, for other runtimes to convert. inputs: (texts, tokens) or (texts, tokens, features).
    with_linears: the same with linear layers of another class, of weights in another precision.
    """

    name: str
    module: nn.Module
    inputs: Tensor
    with_linears: Callable[[LinearFactory, torch.dtype], Call]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    logging.disable(logging.WARNING)  # the quantizers log every layer
    rows = [row for case in cases() for row in measure(case, options.threads, options.rounds)]
    result = {"machine": machine.describe(), "threads": options.threads, "rounds": options.rounds, "rows": rows}
    show(result, Console(width=140))
    path = options.out / "int8_trial.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def cases() -> Iterator[Case]:
    encoder: Any = load(resolve_model("embedded")).model.encoder_model
    bert = BertModel(encoder.config, add_pooling_layer=False).eval()
    bert.load_state_dict(encoder.state_dict(), strict=False)  # less the pooler
    ids = torch.randint(1000, encoder.config.vocab_size, (TEXTS, TOKENS))

    def with_linears(linear: LinearFactory, dtype: torch.dtype) -> Call:
        packed = Bert(copy.deepcopy(encoder).to(dtype), linear)
        return lambda input_ids: packed(input_ids, torch.ones_like(input_ids))

    yield Case("embedded model's encoder", LastStates(bert), ids, with_linears)
    for name, block in (
        ("DeBERTa base, one layer", Block(3072)),
        ("ModernBERT base, one layer", Block(1152, gated=True)),
    ):
        yield Case(name, block, torch.randn(TEXTS, TOKENS, Block.SIZE), block.with_linears)


class LastStates(nn.Module):
    """An encoder's last states."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self._encoder = encoder

    def forward(self, input_ids: Tensor) -> Tensor:
        states: Tensor = self._encoder(input_ids=input_ids, attention_mask=torch.ones_like(input_ids)).last_hidden_state
        return states


class Block(nn.Module):
    """The linear layers of one encoder layer, without its attention."""

    SIZE = 768

    def __init__(self, inner: int, *, gated: bool = False) -> None:
        super().__init__()
        self._gated = gated
        self.layers = nn.ModuleList(
            [
                nn.Linear(self.SIZE, 3 * self.SIZE),
                nn.Linear(self.SIZE, self.SIZE),
                nn.Linear(self.SIZE, inner * (2 if gated else 1)),
                nn.Linear(inner, self.SIZE),
            ]
        )
        self.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self._computed(inputs, list(self.layers))

    def with_linears(self, linear: LinearFactory, dtype: torch.dtype) -> Call:
        layers = [linear(copy.deepcopy(layer).to(dtype)) for layer in self.layers]
        return lambda inputs: self._computed(inputs.to(dtype).flatten(0, 1), layers).view(inputs.shape)

    def _computed(self, inputs: Tensor, layers: Sequence[Any]) -> Tensor:
        attended = layers[0](inputs)[..., : self.SIZE]
        states = functional.layer_norm(layers[1](attended) + inputs, (self.SIZE,))
        inner = layers[2](states)
        if self._gated:
            gate, value = inner.chunk(2, dim=-1)
            inner = functional.gelu(gate) * value
        else:
            inner = functional.gelu(inner)
        return functional.layer_norm(layers[3](inner) + states, (self.SIZE,))


@torch.inference_mode()
def measure(case: Case, threads: int, round_count: int) -> list[dict[str, Any]]:
    calls = dict(torch_calls(case))
    with tempfile.TemporaryDirectory() as folder:
        if find_spec("openvino") and find_spec("nncf"):
            calls |= openvino_calls(case, threads)
        if find_spec("onnx") and find_spec("onnxruntime"):
            calls |= onnx_calls(case, threads, Path(folder))
    outputs = {name: call(case.inputs).float() for name, call in calls.items()}
    seconds = cpu_seconds(calls, case.inputs, round_count)
    return [
        {
            "case": case.name,
            "way": name,
            "milliseconds": 1e3 * statistics.median(seconds[name]),
            "speedup": rounds.ratio(seconds[EXACT], seconds[name]),
            "error": relative(outputs[name], outputs[EXACT]),
            "company": relative(call(case.inputs[:1]).float(), outputs[name][:1]),
        }
        for name, call in calls.items()
    ]


def cpu_seconds(calls: Mapping[str, Call], inputs: Tensor, round_count: int) -> dict[str, list[float]]:
    """Return the processor's seconds of each call in each round, all threads together, after one round to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-1, round_count):
        for name, call in calls.items():
            started = time.process_time()
            call(inputs)
            if number >= 0:
                taken[name].append(time.process_time() - started)
    return taken


def relative(outputs: Tensor, expected: Tensor) -> float:
    return float((outputs - expected).norm() / expected.norm())


def torch_calls(case: Case) -> Iterator[tuple[str, Call]]:
    yield EXACT, case.with_linears(PackedLinear, torch.float32)
    yield "torch bfloat16", case.with_linears(PackedLinear, torch.bfloat16)
    yield "torch int8, qlinear_pointwise", case.with_linears(Int8Linear, torch.float32)
    yield "torch int8, _int_mm", case.with_linears(IntMmLinear, torch.float32)


def openvino_calls(case: Case, threads: int) -> dict[str, Call]:
    import nncf
    import openvino

    model = openvino.convert_model(case.module, example_input=case.inputs)
    compressed = nncf.compress_weights(model.clone(), mode=nncf.CompressWeightsMode.INT8_SYM)

    def compiled(source: Any, precision: str, group_size: int) -> Call:
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": precision,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(group_size),
        }
        network = openvino.Core().compile_model(source, "CPU", settings)
        return lambda inputs: torch.from_numpy(network(inputs.numpy())[0].copy())

    return {
        "OpenVINO float32": compiled(model, "f32", 0),
        "OpenVINO bfloat16": compiled(model, "bf16", 0),
        "OpenVINO int8, groups of 32": compiled(compressed, "f32", 32),
        "OpenVINO int8, groups of 32, bfloat16": compiled(compressed, "bf16", 32),
    }


def onnx_calls(case: Case, threads: int, folder: Path) -> dict[str, Call]:
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    exported, dynamic, blocks = (folder / f"{name}.onnx" for name in ("float32", "dynamic", "blocks"))
    axes = {name: {0: "texts", 1: "tokens"} for name in ("inputs", "outputs")}
    with torch.inference_mode(mode=False):
        torch.onnx.export(
            *(case.module, (case.inputs.clone(),), exported),
            **{"input_names": ["inputs"], "output_names": ["outputs"], "dynamic_axes": axes, "dynamo": False},
        )
    quantize_dynamic(exported, dynamic, per_channel=True, weight_type=QuantType.QInt8)
    quantizer = MatMulNBitsQuantizer(
        onnx.load(exported),
        bits=8,
        block_size=32,
        is_symmetric=True,
        accuracy_level=4,  # of int8
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(blocks))

    def session(path: Path) -> Call:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        loaded = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        return lambda inputs: torch.from_numpy(loaded.run(None, {"inputs": inputs.numpy()})[0])

    return {
        "ONNX Runtime float32": session(exported),
        "ONNX Runtime int8, a scale for the batch": session(dynamic),
        "ONNX Runtime int8, blocks of 32": session(blocks),
    }


def show(result: dict[str, Any], console: Console) -> None:
    about = result["machine"]
    table = Table(title=f"{about['cpu']}, {result['threads']} threads, {TEXTS} texts of {TOKENS} tokens")
    for heading in ("case", "way", "ms", "times as fast", "error", "company"):
        table.add_column(heading, justify="left" if heading in ("case", "way") else "right", no_wrap=True)
    for row in result["rows"]:
        speedup = rounds.shown(row["speedup"], ".2f")
        errors = f"{row['error']:.1e}", f"{row['company']:.1e}"
        table.add_row(row["case"], row["way"], f"{row['milliseconds']:.1f}", speedup, *errors)
    console.print(table)


if __name__ == "__main__":
    main()
