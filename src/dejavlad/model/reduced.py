"""A backbone's copy for bfloat16: as near to float32 as its speed allows.

Plain rounding of weights costs NetVLAD dearly: a filter's errors add up wherever its window is smooth, and
sharp assignments amplify them. So weights are rounded such that the errors cancel over each window, and the
last convolutions stay in float32 as long as they are a small part of the work.

A norm or a scale behind a convolution or a linear layer becomes part of its weights, and on a processor an
activation is done with the product that it follows (`dejavlad.backbones.packed`).

Shapes: O outputs, I inputs of a convolution, T taps of its window.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fusion

from dejavlad.backbones.base import ChainBackbone
from dejavlad.backbones.chain import Chain
from dejavlad.backbones.dinov2 import DinoV2, LayerScale
from dejavlad.backbones.efficientnet_lite import EfficientNetLite
from dejavlad.backbones.packed import After, PackedBlock, PackedConv2d, PackedLinear, packs
from dejavlad.backbones.resnet import Block, ResNet
from dejavlad.errors import InputError

FLOAT32_SHARE = 0.1
"""The last convolutions stay in float32 up to this share of all their multiplications."""
PROBE, PROBE_OF_OTHERS = 112, 224
"""Sides in pixels of the photo that shows what follows what: a small one for our networks (a multiple of 14
and 16), and one that suits those of others (of 32 too)."""
NEAR = 0.995
"""Least cosine of its features in bfloat16 to those in float32; else no layer is joined to another."""
JOINED = (ChainBackbone, Chain, ResNet, EfficientNetLite, DinoV2)
"""Networks whose layers may be joined: an output goes into one other layer, which no run shows of others."""
SIMPLE = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU, nn.GELU, LayerScale)


class Float32Conv2d(nn.Conv2d):
    """A convolution that computes in float32 also under autocast to bfloat16."""

    after: After = "none"

    def forward(self, input: Tensor, added: Tensor | None = None) -> Tensor:
        """[N, I, H, W] of any floating type -> float32, with `added` before what follows."""
        with torch.autocast(input.device.type, enabled=False):
            made = super().forward(input.float())
            made = made if added is None else made + added
            if self.after == "gelu":
                return F.gelu(made)
            return made.relu_() if self.after == "relu" else made


class Call(NamedTuple):
    """A simple layer as it was run."""

    layer: nn.Module
    given: Tensor
    made: Tensor


def bf16_copy(backbone: nn.Module, *, exact: bool = True) -> nn.Module:
    """A copy in evaluation mode, channels last, to be run under ``torch.autocast`` to bfloat16.

    Args:
        backbone: in float32.
        exact: leave the last convolutions in float32, for what assigns features sharply.
    """
    with torch.inference_mode(False), torch.no_grad():
        joined = _joined(backbone, exact) if isinstance(backbone, JOINED) else None
        return joined or _rounded(copy.deepcopy(backbone).eval(), exact, joins=False)[0]


def _joined(backbone: nn.Module, exact: bool) -> nn.Module | None:
    """The copy with layers joined; None where one of them is used otherwise than it seems."""
    made, calls = _rounded(copy.deepcopy(backbone).eval(), exact, joins=True)
    if not calls:
        return made
    _, photo, wanted = calls[-1]
    with torch.autocast(photo.device.type, dtype=torch.bfloat16):
        features = made(photo.contiguous(memory_format=torch.channels_last))
    near = F.cosine_similarity(features.float().flatten(), wanted.flatten(), dim=0) > NEAR
    return made if near else None


def _rounded(made: nn.Module, exact: bool, *, joins: bool) -> tuple[nn.Module, list[Call]]:
    """The same network, its weights rounded, and how it was run before, the whole of it last."""
    calls = _calls(made) if joins or exact else []
    kept = _last_convolutions(calls) if exact else set()
    after = _join(made, calls) if joins else {}
    parts: dict[nn.Module, nn.Module] = {}
    for layer in made.modules():
        if layer in kept:
            layer.__class__ = Float32Conv2d
            vars(layer)["after"] = after.get(layer, "none")
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            rounded = layer.weight.unsqueeze(-1) if layer.weight.ndim == 2 else layer.weight
            rounded = round_by_window(rounded).view_as(layer.weight)
            layer.weight = nn.Parameter(rounded, requires_grad=False)
            if layer in after:
                kind = PackedConv2d if isinstance(layer, nn.Conv2d) else PackedLinear
                parts[layer] = kind(layer, after[layer])  # type: ignore[arg-type]
    _replace(made, parts)
    return made.to(memory_format=torch.channels_last), calls  # type: ignore[call-overload]


def _join(made: nn.Module, calls: Sequence[Call]) -> dict[nn.Module, After]:
    """Take norms and scales into the weights before them, and activations too where that can be.

    Returns:
        What follows each layer that can be packed; empty where none can.
    """
    runs = Counter(call.layer for call in calls)
    packing = packs() and next(made.parameters()).device.type == "cpu"
    after: dict[nn.Module, After] = {}
    gone: dict[nn.Module, nn.Module] = {}
    # Tensors are known by identity: what made one is joined to what takes it, unless either runs twice, as
    # then its weights serve more than one place.
    makers: dict[int, nn.Module] = {}
    for layer, given, output in calls:
        maker = makers.get(id(given)) if runs[layer] == 1 else None
        maker = maker if maker is not None and runs[maker] == 1 else None
        makers[id(output)] = layer
        if packing and _can_be_packed(layer):
            after[layer] = "none"
        if maker is None or after.get(maker, "none") != "none" or not _absorb(maker, layer, after):
            continue
        gone[layer] = nn.Identity()
        makers[id(output)] = maker
    for block in made.modules():
        if type(block) is Block and block.stop is None and packing:
            convolutions = [block.get_submodule(f"conv{i}") for i in range(1, block.depth + 1)]
            if all(layer in after and runs[layer] == 1 for layer in convolutions):
                block.__class__ = PackedBlock
                after |= dict.fromkeys(convolutions, "relu")
    _replace(made, gone)
    return {layer: done for layer, done in after.items() if runs[layer] == 1}


def _absorb(maker: nn.Module, layer: nn.Module, after: dict[nn.Module, After]) -> bool:
    """Make `layer` a part of the one before it; whether that can be."""
    if isinstance(layer, nn.BatchNorm2d) and isinstance(maker, nn.Conv2d) and layer.running_mean is not None:
        joined = fusion.fuse_conv_bn_eval(maker, layer)
        maker.weight, maker.bias = joined.weight, joined.bias
    elif isinstance(layer, LayerScale) and isinstance(maker, nn.Linear):
        maker.weight.mul_(layer.gamma[:, None])
        if maker.bias is not None:
            maker.bias.mul_(layer.gamma)
    elif isinstance(layer, nn.ReLU) and maker in after:
        after[maker] = "relu"
    elif isinstance(layer, nn.GELU) and maker in after and layer.approximate == "none":
        after[maker] = "gelu"
    else:
        return False
    return True


def _can_be_packed(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return isinstance(layer, nn.Linear)


def _replace(network: nn.Module, parts: Mapping[nn.Module, nn.Module]) -> None:
    """Put others in the place of some layers."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if child in parts:
                setattr(parent, name, parts[child])


def round_by_window(weight: Tensor) -> Tensor:
    """Weights [O, I, ...] in bfloat16, the rounding errors of each window summing to almost nothing.

    Each tap takes on the error of those before it, large taps first, so that what is left over is the
    rounding of the smallest one.
    """
    taps_OIT = weight.detach().float().flatten(2)
    order_OIT = taps_OIT.abs().argsort(dim=2, descending=True)
    sorted_OIT = taps_OIT.gather(2, order_OIT)
    rounded_OIT = torch.empty_like(sorted_OIT, dtype=torch.bfloat16)
    carry_OI = torch.zeros_like(sorted_OIT[:, :, 0])
    for tap in range(sorted_OIT.shape[2]):
        wanted_OI = sorted_OIT[:, :, tap] + carry_OI
        rounded_OIT[:, :, tap] = wanted_OI.bfloat16()
        carry_OI = wanted_OI - rounded_OIT[:, :, tap].float()
    return torch.empty_like(rounded_OIT).scatter_(2, order_OIT, rounded_OIT).view_as(weight)


def _calls(backbone: nn.Module) -> list[Call]:
    """The simple layers in the order in which a photo goes through them, and the whole network at the end.

    None, where the network needs larger photos.
    """
    calls: list[Call] = []

    def note(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        calls.append(Call(layer, given[0], made))

    hooks = [layer.register_forward_hook(note) for layer in backbone.modules() if type(layer) in SIMPLE]
    parameter = next(backbone.parameters())
    side = PROBE if isinstance(backbone, JOINED) else PROBE_OF_OTHERS
    photo = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(parameter)
    try:
        calls.append(Call(backbone, photo, backbone(photo)))
    except (InputError, RuntimeError, ValueError):  # whatever a network of others says of this size
        return []
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _last_convolutions(calls: Sequence[Call]) -> set[nn.Module]:
    """The convolutions that stay in float32: the last ones, up to `FLOAT32_SHARE` of the multiplications."""
    convolutions = [
        (call.layer, call.made[0, 0].numel() * sum(p.numel() for p in call.layer.parameters()))
        for call in calls
        if type(call.layer) is nn.Conv2d
    ]
    left = FLOAT32_SHARE * sum(work for _, work in convolutions)
    exact: set[nn.Module] = set()
    for layer, work in reversed(convolutions):
        left -= work
        if left < 0:
            break
        exact.add(layer)
    return exact
