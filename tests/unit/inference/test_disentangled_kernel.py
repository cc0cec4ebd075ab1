"""DeBERTa's attention over packed rows: the Triton kernel, run by Triton's interpreter, has the states of transformers.

With TRITON_INTERPRET=0 the same tests run it compiled, on a GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoConfig, AutoModel

from gliclass_spark.inference.kernels.disentangled_kernel import attend_disentangled
from gliclass_spark.inference.kernels.linear import ConcatenatedLinear
from gliclass_spark.inference.kernels.packed_attention import KernelError
from gliclass_spark.inference.kernels.packed_deberta import PackedDeberta, packed_deberta

DEVICE = torch.device("cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda")
TOLERANCE = 1e-5  # between two features of size 1, float32
VOCABULARY = 100
QUERIES, KEYS = 32, 64  # of a program of the kernel
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 512,
    "relative_attention": True,
    "position_buckets": 16,
    "pos_att_type": ("c2p", "p2c"),
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
}
TERMS = [("c2p", "p2c"), ("c2p",), ("p2c",), ()]
VARIANTS: dict[str, dict[str, Any]] = {
    "v3": {"position_biased_input": False, "type_vocab_size": 0, "position_buckets": 256},
    "two layers": {"num_hidden_layers": 2},
    "no relative attention": {"relative_attention": False},
    "no buckets, rows longer than the span": {"position_buckets": -1, "max_relative_positions": 24},
    "no buckets, a span longer than the rows": {"position_buckets": -1},
    "as many distances with an embedding as the table has": {"position_buckets": 126},
    "one distance less": {"position_buckets": 124},
    "buckets of a short range": {"max_relative_positions": 40},
    "an odd number of features for each head": {"hidden_size": 21, "num_attention_heads": 3},
    "as many features as the smallest product": {"hidden_size": 32},
}
LENGTHS = st.lists(
    st.one_of(st.integers(1, 4), st.sampled_from([QUERIES, QUERIES + 1, KEYS, KEYS + 1]), st.integers(5, 100)),
    min_size=1,
    max_size=3,
)


@cache
def random_encoder(**changes: Any) -> Any:
    """An encoder with states of size 1, in which distances and biases matter."""
    shape = {**SHAPE, **changes}
    shape["pos_att_type"] = list(shape["pos_att_type"])
    encoder = AutoModel.from_config(AutoConfig.for_model("deberta-v2", **shape)).eval()
    generator = torch.Generator().manual_seed(0)
    for weight in encoder.parameters():
        noise = torch.randn(weight.shape, generator=generator)
        weight.data = 0.3 * noise if weight.dim() > 1 else 1 + 0.1 * noise
    return encoder.to(DEVICE)


@cache
@torch.no_grad()
def kernel_encoder(**changes: Any) -> PackedDeberta:
    encode = packed_deberta(random_encoder(**changes), ConcatenatedLinear, attend_disentangled)
    assert encode is not None
    return encode


def padded(lengths: Sequence[int], seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(3, VOCABULARY, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return (input_ids * mask).to(DEVICE), mask.to(DEVICE)


@torch.inference_mode()
def assert_states_of_transformers(lengths: Sequence[int], **changes: Any) -> None:
    input_ids, mask = padded(lengths)
    states = kernel_encoder(**changes)(input_ids, mask, token_count=sum(lengths))
    for row, length in enumerate(lengths):
        own = input_ids[row : row + 1, :length]
        expected = random_encoder(**changes)(input_ids=own, attention_mask=torch.ones_like(own)).last_hidden_state[0]
        torch.testing.assert_close(states[row, :length], expected, atol=TOLERANCE, rtol=0)
        assert not states[row, length:].any()


@settings(deadline=None, max_examples=6)
@given(LENGTHS, st.sampled_from(TERMS), st.booleans())
@example([1], TERMS[0], True)
@example([100, 1, 100], TERMS[0], False)
@example([QUERIES] * 3, TERMS[1], True)
@example([KEYS + 1, 2, KEYS], TERMS[2], False)
@example([40, 7], TERMS[3], True)
def test_rows_of_any_lengths_have_the_states_of_transformers(
    lengths: list[int], terms: tuple[str, ...], shares_keys: bool
) -> None:
    assert_states_of_transformers(lengths, pos_att_type=terms, share_att_key=shares_keys)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_the_states_of_transformers(variant: str) -> None:
    assert_states_of_transformers([70, 33, 2, 1], **VARIANTS[variant])


def test_a_row_of_the_whole_window_has_the_states_of_transformers() -> None:
    assert_states_of_transformers([512], num_attention_heads=1, position_buckets=256)


@settings(deadline=None, max_examples=6)
@given(LENGTHS, st.randoms(use_true_random=False))
def test_promise_a_row_has_the_same_states_bit_for_bit_in_any_company(lengths: list[int], random: Any) -> None:
    """Promise 1, for the kernel: it reads nothing of other rows, and a row's blocks do not depend on them."""
    generator = torch.Generator().manual_seed(0)
    rows = [attention_inputs(length, generator) for length in lengths]
    alone = [attend([row], length) for row, length in zip(rows, lengths, strict=True)]
    order = list(range(len(rows)))
    random.shuffle(order)
    together = attend([rows[row] for row in order], max(lengths)).split([lengths[row] for row in order])
    for row, states in zip(order, together, strict=True):
        assert torch.equal(states, alone[row])


def attention_inputs(length: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of one row, with two heads of eight features, and its products with six embeddings."""
    projected = torch.randn(length, 3 * 2 * 8, generator=generator)
    c2p, p2c = torch.randn(2, 2, length, 6, generator=generator)
    return projected.to(DEVICE), c2p.to(DEVICE), p2c.to(DEVICE)


def attend(rows: Sequence[tuple[Tensor, Tensor, Tensor]], max_tokens: int) -> Tensor:
    boundaries = torch.tensor([0, *(len(projected) for projected, _, _ in rows)]).cumsum(0).int()
    distances = torch.arange(max_tokens - 1, -max_tokens, -1)
    return attend_disentangled(
        torch.cat([projected for projected, _, _ in rows]),
        boundaries.to(DEVICE),
        max_tokens,
        2,
        8**-0.5,
        torch.cat([c2p for _, c2p, _ in rows], dim=1),
        torch.cat([p2c for _, _, p2c in rows], dim=1),
        (distances.clamp(-3, 2) + 3).int().to(DEVICE),
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, which the interpreter computes with
def test_what_surrounds_the_tokens_in_memory_is_never_read() -> None:
    """Tokens that are not numbers, behind the last row and among a row's neighbours, change nothing of it."""
    generator = torch.Generator().manual_seed(0)
    row = attention_inputs(QUERIES + 1, generator)
    other = tuple(torch.full_like(part, float("nan")) for part in attention_inputs(KEYS + 1, generator))
    before, own, behind = attend([other, row, other], KEYS + 1).split([KEYS + 1, QUERIES + 1, KEYS + 1])
    assert torch.equal(own, attend([row], QUERIES + 1))
    assert before.isnan().all()
    assert behind.isnan().all()


def test_logits_too_large_for_an_exponential_give_numbers() -> None:
    projected, c2p, p2c = attention_inputs(KEYS + 1, torch.Generator().manual_seed(0))
    attended = attend([(1000 * projected, c2p, p2c)], KEYS + 1)
    assert torch.isfinite(attended).all()


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        pytest.param(
            torch.bfloat16,
            marks=pytest.mark.skipif(DEVICE.type == "cpu", reason="the interpreter multiplies bfloat16's bits"),
        ),
    ],
)
def test_half_precision_is_rounded_and_summed_in_float32(dtype: torch.dtype) -> None:
    exact = attention_inputs(KEYS + 1, torch.Generator().manual_seed(0))
    projected, c2p, p2c = (part.to(dtype) for part in exact)
    attended = attend([(projected, c2p, p2c)], KEYS + 1)
    assert attended.dtype is dtype
    expected = attend([(projected.float(), c2p.float(), p2c.float())], KEYS + 1)
    torch.testing.assert_close(attended.float(), expected, atol=2e-2, rtol=0)


def test_it_is_compiled_once_for_rows_of_any_length(tmp_path: Path) -> None:
    """For an Ampere and a Hopper that are not there. What is compiled behind the check at load may fail a job."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", COMPILE]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == ["1", "2"]


# Everything up to the start of a kernel, by a driver that knows which GPU it is, but has none.
COMPILE = """
import torch
import triton
from triton.backends.compiler import GPUTarget

from gliclass_spark.inference.kernels import disentangled_kernel

class Driver:
    def __init__(self, capability):
        self.capability = capability

    def get_current_device(self):
        return self.capability

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", self.capability, 32)

class CompiledOnly:
    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.kernel.warmup(*arguments, grid=grid, **options)

disentangled_kernel._attend_block = CompiledOnly(disentangled_kernel._attend_block)
compiled = []
triton.knobs.runtime.jit_cache_hook = lambda **details: compiled.append(details["repr"])
for capability in (80, 90):
    triton.runtime.driver.set_active(Driver(capability))
    for length, rows, embeddings in [(1, 1, 128), (16, 1, 512), (160, 2, 512), (512, 16, 512), (33, 3, 47)]:
        projected = torch.zeros(length * rows, 3 * 12 * 64, dtype=torch.bfloat16)
        c2p, p2c = (torch.zeros(12, length * rows, embeddings, dtype=torch.bfloat16) for _ in range(2))
        boundaries = torch.arange(0, length * rows + 1, length, dtype=torch.int32)
        indices = torch.zeros(2 * length - 1, dtype=torch.int32)
        disentangled_kernel.attend_disentangled(projected, boundaries, length, 12, 0.1, c2p, p2c, indices)
    print(len(compiled))
"""


class TestErrors:
    """What Triton raises where it can't build a kernel becomes one error, in one line."""

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            pytest.param("compilation", "CompilationError: size is wrong", id="code that does not compile"),
            pytest.param("resources", "OutOfResources: out of resource", id="a GPU that is too small"),
            pytest.param(
                subprocess.CalledProcessError(1, ["gcc"]), "CalledProcessError: Command", id="no headers of Python"
            ),
            pytest.param(PermissionError(13, "Permission denied", "/.triton"), "PermissionError: ", id="no cache"),
            pytest.param(AssertionError("libcuda.so cannot found!\nrun ldconfig"), "AssertionError", id="no driver"),
        ],
    )
    def test_it_says_what_triton_said(
        self, error: Exception | str, reason: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fail(monkeypatch, triton_error(error) if isinstance(error, str) else error)
        row = attention_inputs(3, torch.Generator().manual_seed(0))
        with pytest.raises(KernelError, match=rf"^Triton [\d.]+: {reason}") as raised:
            attend([row], 3)
        assert "\n" not in str(raised.value)

    def test_other_errors_are_not_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fail(monkeypatch, ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            attend([attention_inputs(3, torch.Generator().manual_seed(0))], 3)


class Failing:
    """A kernel that can't be started."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        raise self.error


def fail(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr("gliclass_spark.inference.kernels.disentangled_kernel._attend_block", Failing(error))


def triton_error(kind: str) -> Exception:
    import ast

    from triton.compiler.errors import CompilationError
    from triton.runtime.errors import OutOfResources

    if kind == "resources":
        return OutOfResources(200_000, 100_000, "shared memory")
    source = "def kernel():\n    x = size\n"
    return CompilationError(source, ast.parse(source).body[0], "size is wrong")
