"""DINOv2 (Oquab et al., TMLR 2024; with registers: Darcet et al., ICLR 2024), with its publishers' keys.

Patches of 14x14 pixels become tokens; a class token and, in some, register tokens stand before them. The
network is cut after any block, or after one of a block's facets (its queries, keys or values, as AnyLoc takes
them); blocks after the cut are not made. It gives the patch tokens on their grid, or the class token and the
patch tokens in one column, for heads that take both.

Legend: N photos, T tokens, C channels, H x W cells.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.backbones.base import check_prepared, too_small
from dejavlad.backbones.sizes import PATCH, REGISTERS, VARIANTS
from dejavlad.errors import InputError, UnknownNameError

TRAINED_GRID = 37
"""Cells along a side of the trained table of positions: photos of 518x518."""
HEAD = 64
"""Channels of one attention head."""
EPSILON = 1e-6
"""Of the layer norms."""
PAIRED = 1500
"""Tokens up to which the weights of all pairs of them are held at once, on a processor in bfloat16."""
FACETS = ("query", "key", "value")
"""The three thirds of ``attn.qkv``, in their order."""

Positions = Literal["offset", "size", "antialias"]
"""How the table of positions is resampled to another grid, always bicubic. ``offset``: by scale factors
``(side + 0.1) / 37``, as facebookresearch/dinov2 does without registers, and as all place recognisers built
on it were trained. ``size``: to the size, as the transformers library does. ``antialias``: to the size, with
antialias, as facebookresearch/dinov2 does with registers."""


class Cut(NamedTuple):
    """The block at which the network ends, and what is taken there."""

    block: int
    """The last block, counted from 0."""
    facet: str | None
    """One of `FACETS`, taken of that block; None for its output."""
    norm: bool
    """Whether the last norm is applied."""


def parse_cut(cut: str, depth: int) -> Cut:
    """``norm``, ``blocks.9``, ``blocks.9.norm`` or ``blocks.9.value`` as data.

    Raises:
        UnknownNameError: it is none of these.
    """
    if cut == "norm":
        return Cut(depth - 1, None, True)
    match = re.fullmatch(r"blocks\.(\d{1,3})(?:\.(query|key|value|norm))?", cut, re.ASCII)
    if match and int(match[1]) < depth:
        facet = match[2] if match[2] in FACETS else None
        return Cut(int(match[1]), facet, match[2] == "norm")
    valid = ["norm", *(f"blocks.{i}" for i in range(depth))]
    raise UnknownNameError("layer", cut, valid, "also blocks.I.norm, blocks.I.query, .key and .value")


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention [n, heads, T, channels], the fastest way there is.

    On a processor, torch's own kernel is no faster in bfloat16 than in float32, and two products of matrices
    are: as long as the weights of all pairs of tokens fit easily.
    """
    n, heads, tokens, width = q.shape
    plain = q.device.type == "cpu" and q.dtype == torch.bfloat16 and not q.requires_grad
    if not plain or tokens > PAIRED:
        return F.scaled_dot_product_attention(q, k, v)
    q, k, v = (part.reshape(n * heads, tokens, width) for part in (q, k, v))
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.transpose(1, 2), beta=0, alpha=width**-0.5)
    return torch.bmm(scores.softmax(dim=-1), v).view(n, heads, tokens, width)


class PatchEmbed(nn.Module):
    """One convolution that turns each patch of 14 x 14 pixels into a token of C numbers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, PATCH, PATCH)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """[N, 3, h, w] -> [N, H*W, C], row by row."""
        tokens: Tensor = self.proj(images_NCHW)
        return tokens.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention among all tokens of a photo: [N, T, C] -> [N, T, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // HEAD
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x_NTC: Tensor) -> Tensor:
        """[N, T, C] -> [N, T, C]."""
        qkv_NTC: Tensor = self.qkv(x_NTC)
        n, tokens, _ = qkv_NTC.shape
        q, k, v = qkv_NTC.view(n, tokens, 3, self.heads, HEAD).permute(2, 0, 3, 1, 4)
        attended_NhTd = attended(q, k, v)
        projected: Tensor = self.proj(attended_NhTd.transpose(1, 2).reshape(n, tokens, -1))
        return projected


class FacetOnly(nn.Module):
    """``attn.qkv`` alone, of the block that the network is cut in: one third of it."""

    def __init__(self, channels: int, facet: str) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.third = FACETS.index(facet)

    def forward(self, x_NTC: Tensor) -> Tensor:
        """[N, T, C] -> [N, T, C], the queries, keys or values."""
        weight, bias = (part.chunk(3)[self.third] for part in (self.qkv.weight, self.qkv.bias))
        return F.linear(x_NTC, weight, bias)


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x_NTC: Tensor) -> Tensor:
        """[N, T, C] -> [N, T, C]."""
        out_NTC: Tensor = self.fc2(self.act(self.fc1(x_NTC)))
        return out_NTC


class SwiGlu(nn.Module):
    """The gated feed-forward layer of the largest network."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(channels, 2 * hidden)
        self.w3 = nn.Linear(hidden, channels)

    def forward(self, x_NTC: Tensor) -> Tensor:
        """[N, T, C] -> [N, T, C]."""
        gate, value = self.w12(x_NTC).chunk(2, dim=-1)
        out_NTC: Tensor = self.w3(F.silu(gate) * value)
        return out_NTC


class LayerScale(nn.Module):
    """A learnt factor for each channel, 1e-5 at the start: [N, T, C] -> [N, T, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), 1e-5))

    def forward(self, x_NTC: Tensor) -> Tensor:
        """[N, T, C] -> [N, T, C]."""
        return x_NTC * self.gamma


class Block(nn.Module):
    """Attention and a feed-forward layer, each of the normalised tokens and added to them."""

    def __init__(self, channels: int, hidden: int, swiglu: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, EPSILON)
        self.attn = Attention(channels)
        self.ls1 = LayerScale(channels)
        self.norm2 = nn.LayerNorm(channels, EPSILON)
        self.mlp = SwiGlu(channels, hidden) if swiglu else Mlp(channels, hidden)
        self.ls2 = LayerScale(channels)

    def forward(self, x_NTC: Tensor) -> Tensor:
        """[N, T, C] -> [N, T, C]."""
        x_NTC = x_NTC + self.ls1(self.attn(self.norm1(x_NTC)))
        out_NTC: Tensor = x_NTC + self.ls2(self.feed_forward(self.norm2(x_NTC)))
        return out_NTC

    def feed_forward(self, x_NTC: Tensor) -> Tensor:
        """The feed-forward layer's output [N, T, C] for normalised tokens [N, T, C]."""
        out_NTC: Tensor = self.mlp(x_NTC)
        return out_NTC


class FacetBlock(nn.Module):
    """What is needed of the block that the network is cut in."""

    def __init__(self, channels: int, facet: str) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, EPSILON)
        self.attn = FacetOnly(channels, facet)

    def forward(self, x_NTC: Tensor) -> Tensor:
        """[N, T, C] -> [N, T, C]."""
        out_NTC: Tensor = self.attn(self.norm1(x_NTC))
        return out_NTC


class DinoV2(nn.Module):
    """DINOv2 as a backbone.

    Args:
        variant: ``s``, ``b``, ``l`` or ``g``.
        cut: where it ends: ``norm`` (the last block and the last norm), ``blocks.I`` (block I without that
            norm), ``blocks.I.norm``, or ``blocks.I.query``, ``.key``, ``.value``.
        registers: register tokens, 0 or 4.
        positions: see `Positions`; default: as its publishers do.
        leading: 1 gives class token and patch tokens, [N, C, 1 + H*W, 1]; 0 the patches, [N, C, H, W].
        fit: photos whose sides are no multiples of 14 are refused (``exact``) or resized to the nearest ones
            (``round``, as MegaLoc does).

    Raises:
        UnknownNameError: no such variant, cut or rule.
        InputError: other numbers.
    """

    scales = 1

    def __init__(
        self,
        variant: str,
        cut: str = "norm",
        *,
        registers: int = 0,
        positions: Positions | None = None,
        leading: int = 0,
        fit: Literal["exact", "round"] = "exact",
    ) -> None:
        super().__init__()
        positions = positions or ("antialias" if registers else "offset")
        for what, given, valid in (
            ("size of DINOv2", variant, tuple(VARIANTS)),
            ("rule for positions", positions, get_args(Positions)),
            ("rule for sizes", fit, ("exact", "round")),
        ):
            if given not in valid:
                raise UnknownNameError(what, str(given), valid)
        if registers not in (0, REGISTERS) or leading not in (0, 1):
            raise InputError(
                f"DINOv2 has 0 or {REGISTERS} registers and 0 or 1 leading tokens; "
                f"given {registers} and {leading}"
            )
        size = VARIANTS[variant]
        self.variant, self.registers, self.positions, self.fit = size, registers, positions, fit
        self.leading = leading
        """Tokens before the patches in what it gives."""
        self.cut = parse_cut(cut, size.depth)
        self.channels = size.channels
        """C, of the feature map: numbers of a token."""
        self.stride = self.receptive_field = PATCH
        """A cell's own patch, in pixels; through attention it sees the whole photo."""
        self.offset = (PATCH - 1) / 2
        """Centre of cell (0, 0) in pixels."""
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.channels))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + TRAINED_GRID**2, size.channels))
        if registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, registers, size.channels))
        self.mask_token = nn.Parameter(torch.zeros(1, size.channels))
        """Of its training alone; kept, because the publishers' files and all saved models have it."""
        self.patch_embed = PatchEmbed(size.channels)
        whole = self.cut.block + (self.cut.facet is None)
        self.blocks = nn.ModuleList(self.make_block(i) for i in range(whole))
        if self.cut.facet is not None:
            self.blocks.append(FacetBlock(size.channels, self.cut.facet))
        if self.cut.norm:
            self.norm = nn.LayerNorm(size.channels, EPSILON)

    def make_block(self, _: int) -> Block:
        """A new block; families whose blocks differ choose by its number, counted from 0."""
        return Block(self.channels, self.variant.hidden, self.variant.swiglu)

    def draw(self, seed: int) -> None:
        """Random weights in the trained ones' ranges; a function of the seed alone."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim >= 2:
                    scale = 0.02 if "token" in name or "pos_embed" in name else parameter[0].numel() ** -0.5
                    parameter.normal_(0, scale, generator=generator)
                elif name.endswith("gamma"):
                    parameter.fill_(0.3)
                elif ".bn." not in name:
                    parameter.fill_(0.0 if name.endswith("bias") else 1.0)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) for a prepared photo of that size; zeros where it is too small."""
        if self.fit == "round":
            return round(height / PATCH), round(width / PATCH)
        return height // PATCH, width // PATCH

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Tokens of prepared photos.

        Args:
            images_NCHW: [N, 3, h, w], both sides multiples of 14 unless `fit` is ``round``.

        Returns:
            [N, C, H, W], or [N, C, 1 + H*W, 1] with the class token.

        Raises:
            InputError: photos of another shape or size.
        """
        images_NCHW = self.fitted(images_NCHW)
        rows, columns = (side // PATCH for side in images_NCHW.shape[2:])
        return self.arranged(self.run(self.embed(images_NCHW)), rows, columns)

    def fitted(self, images_NCHW: Tensor) -> Tensor:
        """Photos with sides that are multiples of 14.

        Raises:
            InputError: photos of another shape, too small, or of sides that are refused.
        """
        check_prepared(images_NCHW)
        height, width = images_NCHW.shape[2:]
        if 0 in self.grid(height, width):
            raise too_small(images_NCHW, PATCH)
        rows, columns = (max(1, round(side / PATCH)) for side in (height, width))
        near = (rows * PATCH, columns * PATCH)
        if near == (height, width):
            return images_NCHW
        if self.fit == "exact":
            raise InputError(
                f"photos of {height}x{width} pixels do not fit patches of {PATCH}x{PATCH}: both sides must "
                f"be multiples of {PATCH}, e.g. {near[0]}x{near[1]}"
            )
        return F.interpolate(images_NCHW, near, mode="bilinear", antialias=True)

    def embed(self, images_NCHW: Tensor) -> Tensor:
        """Tokens [N, T, C] before the first block: class token, registers, patches."""
        rows, columns = (side // PATCH for side in images_NCHW.shape[2:])
        tokens_NTC: Tensor = self.patch_embed(images_NCHW)
        first_N1C = self.cls_token.expand(tokens_NTC.shape[0], -1, -1).to(tokens_NTC.dtype)
        tokens_NTC = torch.cat([first_N1C, tokens_NTC], 1) + self.table(rows, columns)
        if self.registers:
            more = self.register_tokens.expand(tokens_NTC.shape[0], -1, -1).to(tokens_NTC.dtype)
            tokens_NTC = torch.cat([tokens_NTC[:, :1], more, tokens_NTC[:, 1:]], dim=1)
        return tokens_NTC

    def run(self, tokens_NTC: Tensor) -> Tensor:
        """All that follows `embed`: [N, T, C] -> [N, T, C]."""
        for block in self.blocks:
            tokens_NTC = block(tokens_NTC)
        return self.norm(tokens_NTC) if self.cut.norm else tokens_NTC

    def arranged(self, tokens_NTC: Tensor, rows: int, columns: int) -> Tensor:
        """All tokens [N, T, C] as `forward` returns them: [N, C, H, W], or [N, C, 1 + H*W, 1]."""
        patches_NCT = tokens_NTC[:, 1 + self.registers :].transpose(1, 2)
        if not self.leading:
            return patches_NCT.reshape(*patches_NCT.shape[:2], rows, columns)
        return torch.cat([tokens_NTC[:, :1].transpose(1, 2), patches_NCT], dim=2).unsqueeze(3)

    def table(self, rows: int, columns: int) -> Tensor:
        """Positions [1, 1 + rows*columns, C] for a grid: the class token's own, then the patches'."""
        if (rows, columns) == (TRAINED_GRID, TRAINED_GRID):
            return self.pos_embed
        trained = self.pos_embed[:, 1:].float()
        trained = trained.reshape(1, TRAINED_GRID, TRAINED_GRID, -1).permute(0, 3, 1, 2)
        target: dict[str, Any]
        if self.positions == "offset":
            target = {"scale_factor": ((rows + 0.1) / TRAINED_GRID, (columns + 0.1) / TRAINED_GRID)}
        else:
            target = {"size": (rows, columns), "antialias": self.positions == "antialias"}
        with torch.autocast(trained.device.type, enabled=False):
            made = F.interpolate(trained, mode="bicubic", **target)
        patches_1TC = made.permute(0, 2, 3, 1).reshape(1, rows * columns, -1)
        return torch.cat([self.pos_embed[:, :1], patches_1TC.to(self.pos_embed.dtype)], dim=1)
