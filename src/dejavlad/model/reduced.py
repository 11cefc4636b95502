"""A backbone's copy for bfloat16: as near to float32 as its speed allows.

Plain rounding of weights costs NetVLAD dearly: a filter's errors add up wherever its window is smooth, and
sharp assignments amplify them. So weights are rounded such that the errors cancel over each window, and the
last convolutions stay in float32 as long as they are a small part of the work.

Shapes: O outputs, I inputs of a convolution, T taps of its window.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from dejavlad.errors import InputError

FLOAT32_SHARE = 0.1
"""The last convolutions stay in float32 up to this share of all their multiplications."""
PROBE = 128
"""Side in pixels of the photo by which multiplications are counted."""


class Float32Conv2d(nn.Conv2d):
    """A convolution that computes in float32 also under autocast to bfloat16."""

    def forward(self, input: Tensor) -> Tensor:
        """[N, I, H, W] of any floating type -> float32."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


def bf16_copy(backbone: nn.Module, *, exact: bool = True) -> nn.Module:
    """A copy in evaluation mode, channels last, to be run under ``torch.autocast`` to bfloat16.

    Args:
        backbone: in float32.
        exact: leave the last convolutions in float32, for what assigns features sharply.
    """
    with torch.inference_mode(False), torch.no_grad():
        made = copy.deepcopy(backbone).eval()
        kept = _last_convolutions(made) if exact else set()
        for layer in made.modules():
            if layer in kept:
                layer.__class__ = Float32Conv2d
            elif isinstance(layer, nn.Conv2d | nn.Linear):
                rounded = layer.weight.unsqueeze(-1) if layer.weight.ndim == 2 else layer.weight
                rounded = round_by_window(rounded).view_as(layer.weight)
                layer.weight = nn.Parameter(rounded, requires_grad=False)
        return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


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


def _last_convolutions(backbone: nn.Module) -> set[nn.Module]:
    """The convolutions that stay in float32: the last ones, up to `FLOAT32_SHARE` of the multiplications."""
    convolutions: list[tuple[nn.Module, int]] = []

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        convolutions.append((layer, output[0, 0].numel() * sum(p.numel() for p in layer.parameters())))

    hooks = [m.register_forward_hook(count) for m in backbone.modules() if type(m) is nn.Conv2d]
    parameter = next(backbone.parameters())
    try:
        backbone(torch.zeros(1, 3, PROBE, PROBE, device=parameter.device, dtype=parameter.dtype))
    except InputError:  # it needs larger photos: round all
        return set()
    finally:
        for hook in hooks:
            hook.remove()
    left = FLOAT32_SHARE * sum(work for _, work in convolutions)
    exact = set()
    for layer, work in reversed(convolutions):
        left -= work
        if left < 0:
            break
        exact.add(layer)
    return exact
