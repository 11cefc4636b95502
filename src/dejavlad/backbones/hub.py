"""Any vision model of the transformers library as a backbone: DINOv2, ViT, ConvNeXt, ResNet ...

A model that answers with tokens gives its patch tokens on their grid; what stands before them (class and
register tokens) is left aside. A model that answers with a map gives the map. Photos are cut at the right and
at the bottom to whole patches, so that no pixel is resampled.

Legend: N photos, T tokens, C channels, H x W cells.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dejavlad.errors import CheckpointError, InputError, MissingExtraError


class HubBackbone(nn.Module):
    """A transformers model as a backbone.

    Args:
        model: a folder that `save_pretrained` wrote, or a model's id on the hub.
        random: build from the configuration alone, with random weights of this seed.
        offline: never download.

    Raises:
        MissingExtraError: transformers is not installed.
        CheckpointError: there is no such model, or it is not here and `offline`.
        InputError: it is no vision model.
    """

    scales = 1

    def __init__(self, model: str, *, random: int | None = None, offline: bool = False) -> None:
        super().__init__()
        try:
            import transformers
        except ImportError:
            raise MissingExtraError(f"the model hub:{model}", "hub") from None
        local = offline or Path(model).is_dir()
        try:
            config = transformers.AutoConfig.from_pretrained(model, local_files_only=local)
            if random is None:
                network = transformers.AutoModel.from_pretrained(model, local_files_only=local)
            else:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(random)
                    network = transformers.AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().split("\n")[0]
            raise CheckpointError(
                f"hub:{model} cannot be opened: {reason}. Give a folder with its config.json and "
                f"model.safetensors{', or go online' if local and not Path(model).is_dir() else ''}"
            ) from error
        self._adopt(network)

    @classmethod
    def of(cls, network: nn.Module) -> HubBackbone:
        """A backbone of a transformers model that is built already."""
        backbone = cls.__new__(cls)
        nn.Module.__init__(backbone)
        backbone._adopt(network)
        return backbone

    def _adopt(self, network: nn.Module) -> None:
        config: Any = network.config
        self.network = network
        self.patch = _patch_of(config)
        """Side of a patch in pixels; None for a model that answers with a map."""
        sizes = getattr(config, "hidden_sizes", None)
        channels = sizes[-1] if sizes else getattr(config, "hidden_size", None)
        if not isinstance(channels, int):
            raise InputError(f"{type(network).__name__} is no vision model that is understood here")
        self.channels = channels
        """C."""
        self.stride = self.patch or _map_stride(network)
        """Pixels from one cell to the next."""
        self.receptive_field = self.stride
        """Of a token, its own patch; attention sees everything."""
        self.offset = (self.stride - 1) / 2
        """Centre of cell (0, 0) in pixels."""

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Feature map of prepared photos.

        Args:
            images_NCHW: [N, 3, h, w].

        Returns:
            [N, C, H, W] with H = h // stride (for tokens).

        Raises:
            InputError: the photos are smaller than one patch.
        """
        if self.patch is None:
            found: Tensor = self.network(pixel_values=images_NCHW).last_hidden_state
            return found
        rows, columns = (side // self.patch for side in images_NCHW.shape[2:])
        if rows == 0 or columns == 0:
            height, width = images_NCHW.shape[2:]
            raise InputError(f"photos of {height}x{width} pixels are smaller than a patch of {self.patch}")
        images_NCHW = images_NCHW[:, :, : rows * self.patch, : columns * self.patch]
        extra = {"interpolate_pos_encoding": True} if _interpolates_on_request(self.network) else {}
        tokens_NTC: Tensor = self.network(pixel_values=images_NCHW, **extra).last_hidden_state
        patches = tokens_NTC[:, tokens_NTC.shape[1] - rows * columns :]
        return patches.transpose(1, 2).reshape(len(patches), self.channels, rows, columns)


def _patch_of(config: Any) -> int | None:
    patch = getattr(config, "patch_size", None)
    if getattr(config, "hidden_sizes", None):
        return None
    if isinstance(patch, list | tuple):
        patch = patch[0]
    return int(patch) if patch else None


def _interpolates_on_request(network: nn.Module) -> bool:
    import inspect

    return "interpolate_pos_encoding" in inspect.signature(network.forward).parameters


def _map_stride(network: nn.Module) -> int:
    """Measured: the side of a probe over that of its map."""
    side = 256
    training = network.training
    network.eval()
    with torch.inference_mode():
        found = network(pixel_values=torch.zeros(1, 3, side, side)).last_hidden_state
    network.train(training)
    if found.ndim != 4:
        raise InputError(f"{type(network).__name__} answers with neither patches nor a map")
    return int(side // found.shape[-1])
