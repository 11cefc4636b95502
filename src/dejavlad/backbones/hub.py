"""Any vision model of the transformers library as a backbone: DINOv2, ViT, ConvNeXt, ResNet ...

A model that answers with tokens gives its patch tokens on their grid; what stands before them (class and
register tokens) is left aside. A model that answers with a map gives the map. Photos are cut at the right and
at the bottom to whole patches, so that no pixel is resampled. Channels and strides are measured on a small
black photo.

Legend: N photos, T tokens, C channels, H x W cells.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dejavlad.backbones.base import check_prepared, too_small
from dejavlad.errors import (
    CheckpointError,
    DownloadError,
    InputError,
    MissingExtraError,
    first_line,
    first_names,
)

PROBE = 128
"""Side of the photo on which models are measured that have no patches."""
UNUSED = ("pooler.", "head.", "classifier.")
"""Parts of transformers' models that play no role here, and may be missing in a file."""


class HubBackbone(nn.Module):
    """A transformers model as a backbone.

    Args:
        model: a folder that ``save_pretrained`` wrote, a model's id on the hub, or a model that is built
            already.
        random: build from the configuration alone, with random weights of this seed.
        offline: never download.
        leading: 1 gives the class token and the patch tokens in one column, [N, C, 1 + H*W, 1].

    Raises:
        MissingExtraError: transformers is not installed.
        DownloadError: a model of the hub that is not to be had, or not here and `offline`.
        CheckpointError: a folder that holds no model, or not all of its weights.
        InputError: it is no vision model that is understood here.
    """

    scales = 1
    leading = 0
    """Tokens before the patches in what it gives."""

    def __init__(
        self,
        model: str | Path | nn.Module,
        *,
        random: int | None = None,
        offline: bool = False,
        leading: int = 0,
    ) -> None:
        super().__init__()
        self.network = network = model if isinstance(model, nn.Module) else _open(str(model), random, offline)
        self.patch = _patch_of(getattr(network, "config", None))
        """Side of a patch in pixels; None for a model that answers with a map."""
        self._extra: dict[str, Any] = {}
        self._before = 0
        if "interpolate_pos_encoding" in inspect.signature(network.forward).parameters:
            self._extra["interpolate_pos_encoding"] = True
        feat_NCHW = self._probe()
        self.channels = int(feat_NCHW.shape[1])
        """C, of the feature map."""
        self.stride = self.patch or round(PROBE / feat_NCHW.shape[-1])
        """Pixels from one cell to the next."""
        self.receptive_field = self.stride
        """A cell's own patch, in pixels; through attention or deep layers it sees much more."""
        self.offset = (self.stride - 1) / 2
        """Centre of cell (0, 0) in pixels."""
        if leading not in (0, 1):
            raise InputError(f"0 or 1 token may stand before the patches; given {leading}")
        if leading and (self.patch is None or not self._before):
            name = type(model).__name__ if isinstance(model, nn.Module) else f"hub:{model}"
            raise InputError(f"{name} has no class token before its patches, which this head needs")
        self.leading = leading

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Feature map of prepared photos.

        Args:
            images_NCHW: [N, 3, h, w].

        Returns:
            [N, C, H, W], H = h // patch and W = w // patch where there are patches.

        Raises:
            InputError: the photos are of another shape, or too small to leave a single cell.
        """
        check_prepared(images_NCHW)
        if min(images_NCHW.shape[2:]) < self.stride:
            raise too_small(images_NCHW, self.stride)
        return self._run(images_NCHW)

    def _run(self, images_NCHW: Tensor) -> Tensor:
        if self.patch is None:
            hidden: Tensor = self.network(pixel_values=images_NCHW, **self._extra).last_hidden_state
            return hidden
        rows, columns = (side // self.patch for side in images_NCHW.shape[2:])
        whole_NCHW = images_NCHW[:, :, : rows * self.patch, : columns * self.patch]
        tokens_NTC: Tensor = self.network(pixel_values=whole_NCHW, **self._extra).last_hidden_state
        self._before = before = tokens_NTC.shape[1] - rows * columns
        if before < 0:
            raise InputError(f"{type(self.network).__name__} does not keep one token a patch")
        if self.leading:
            kept_NTC = torch.cat([tokens_NTC[:, :1], tokens_NTC[:, before:]], dim=1)
            return kept_NTC.transpose(1, 2).unsqueeze(3)
        return tokens_NTC[:, before:].transpose(1, 2).reshape(tokens_NTC.shape[0], -1, rows, columns)

    def _probe(self) -> Tensor:
        network = self.network
        side = 4 * self.patch if self.patch else PROBE
        parameter = next(network.parameters(), torch.zeros(1))
        training = network.training
        network.eval()
        try:
            with torch.inference_mode():
                feat_NCHW = self._run(parameter.new_zeros(1, 3, side, side))
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            raise InputError(
                f"{type(network).__name__} is no vision model that is understood here: {first_line(error)}"
            ) from error
        finally:
            network.train(training)
        if feat_NCHW.ndim != 4:
            raise InputError(f"{type(network).__name__} answers with neither patches nor a map")
        return feat_NCHW


def _open(model: str, random: int | None, offline: bool) -> nn.Module:
    try:
        import transformers
    except ImportError:
        raise MissingExtraError(f"the model hub:{model}", "hub") from None
    folder = Path(model).is_dir()
    source: dict[str, Any] = {"local_files_only": offline or folder, "trust_remote_code": False}
    missing: list[str] = []
    try:
        with torch.random.fork_rng(devices=[]), _quiet(transformers.utils.logging):
            config = transformers.AutoConfig.from_pretrained(model, **source)
            if random is None:
                opened, loading = transformers.AutoModel.from_pretrained(
                    model, config=config, output_loading_info=True, **source
                )
                missing = [key for key in loading["missing_keys"] if not key.startswith(UNUSED)]
            else:
                torch.manual_seed(random)
                opened = transformers.AutoModel.from_config(config)
    except Exception as error:  # transformers raises errors of many kinds
        reason = f"hub:{model} cannot be opened: {first_line(error)}"
        if folder:
            raise CheckpointError(
                f"{reason} (a model's folder holds config.json and model.safetensors)"
            ) from error
        hint = (
            "offline: fetch the model by other means and give its folder" if offline else "is the id right?"
        )
        raise DownloadError(f"{reason} (there is no such folder; {hint})") from error
    network: nn.Module = opened.float()
    if missing:
        raise CheckpointError(f"hub:{model} lacks weights: {first_names(missing)}")
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"hub:{model}: {key} holds NaN or infinity; the file is damaged")
    return network


@contextmanager
def _quiet(talk: Any) -> Iterator[None]:
    """Run the body without transformers' progress bars and warnings."""
    level, bars = talk.get_verbosity(), talk.is_progress_bar_enabled()
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    try:
        yield
    finally:
        talk.set_verbosity(level)
        if bars:
            talk.enable_progress_bar()


def _patch_of(config: Any) -> int | None:
    """The side of a patch, of models that keep one token a patch."""
    patch = getattr(config, "patch_size", None)
    if getattr(config, "hidden_sizes", None):
        return None
    if isinstance(patch, list | tuple):
        patch = patch[0]
    return int(patch) if isinstance(patch, int) else None
