"""Which parts of a model learn: its head, its last blocks, small adapters, or all of it.

Adapters are low-rank changes of the weights of attention (LoRA, Hu et al., ICLR 2022): ``W + B A``, where B
begins as zeros. In the models that a run writes they are added to the weights, so that these are what they
were: the same network, opened like any other.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dejavlad.errors import InputError
from dejavlad.model import PlaceModel
from dejavlad.training.config.trainable import parse_trainable

ADAPTED = ("attn.qkv", "attn.proj")
"""Layers of a block that get adapters."""

M = TypeVar("M", bound=nn.Module)


class LowRank(nn.Module):
    """``W + B A``: a change of rank r of a matrix.

    Args:
        weight: W [O, I], which does not learn.
        rank: r.
        generator: of A's first values.
    """

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        drawn = torch.randn(rank, weight.shape[1], generator=generator) * weight.shape[1] ** -0.5
        self.down = nn.Parameter(drawn.to(weight.device, weight.dtype))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        """[O, I] -> [O, I]."""
        return weight + self.up @ self.down


def make_trainable(model: PlaceModel, trainable: str, seed: int) -> None:
    """Let those parts of a model learn, and nothing else of it; its head always does.

    Args:
        model: it is changed.
        trainable: see `parse_trainable`.
        seed: of adapters.

    Raises:
        InputError: its backbone has no blocks, or fewer.
    """
    kind, number = parse_trainable(trainable)
    model.backbone.requires_grad_(kind == "all")
    model.aggregation.requires_grad_(True)
    if kind in ("head", "all"):
        return
    blocks = getattr(model.backbone, "blocks", None)
    if not isinstance(blocks, nn.ModuleList):
        raise InputError(
            f"trainable = {trainable!r} is of networks with blocks (DINOv2); {model.name} has none: give "
            "head, all, or train_from with the name of a layer"
        )
    if kind == "blocks":
        if number > len(blocks):
            raise InputError(f"trainable = {trainable!r}, but {model.name} has {len(blocks)} blocks")
        for block in list(blocks)[-number:]:
            block.requires_grad_(True)
        norm = getattr(model.backbone, "norm", None)
        if isinstance(norm, nn.Module):
            norm.requires_grad_(True)
        return
    generator = torch.Generator().manual_seed(seed)
    for block in blocks:
        for name, layer in block.named_modules():
            if name in ADAPTED and isinstance(layer, nn.Linear):
                change = LowRank(layer.weight.detach(), number, generator)
                parametrize.register_parametrization(layer, "weight", change)


def merged(model: M) -> M:
    """The model with adapters added to its weights: itself, where it has none, else a copy."""
    if not any(parametrize.is_parametrized(module) for module in model.modules()):
        return model
    whole = copy.deepcopy(model)
    for parent in list(whole.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear) and parametrize.is_parametrized(layer, "weight"):
                setattr(parent, name, _plain(layer))
    return whole.eval()


def _plain(layer: nn.Linear) -> nn.Linear:
    """A layer of the weights as they are now. (torch's own way back changes the class of all copies too.)"""
    plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
    plain.weight = nn.Parameter(layer.weight.detach().clone())
    plain.bias = layer.bias
    return plain
