"""Low-rank adapters (LoRA, arXiv 2106.09685), merged into the encoder when the training ends."""

from __future__ import annotations

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn


def add_adapters(encoder: nn.Module, rank: int) -> None:
    """Add an adapter to every linear layer of the encoder, in place; the encoder's own weights are frozen."""
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    inject_adapter_in_model(config, encoder)


def merge_adapters(encoder: nn.Module) -> None:
    """Add the adapters to the encoder's weights and remove them, in place."""
    for name, layer in list(encoder.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(encoder.get_submodule(parent), child, layer.get_base_layer())
