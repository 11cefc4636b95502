"""A model that learns: cut in two at the first layer that does, so that what lies below is computed once.

Shapes: N photos, D numbers of a descriptor; a map is [N, C, h, w], whatever the last frozen layer makes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dejavlad.backbones import Backbone, train_from
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.model import PlaceModel
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.steps.trainable import make_trainable


class Network:
    """A model's frozen part and its part that learns.

    Args:
        model: fitted, without whitening; which of its parameters learn is set here, and it is changed by
            training.
        config: from which layer on, and how exactly.

    Raises:
        UnknownNameError: there is no such layer.
        InputError: nothing is left to learn.
    """

    def __init__(self, model: PlaceModel, config: TrainConfig) -> None:
        self.model = model
        self._config = config
        if config.precision == "fp64":
            model.double()
        if config.trainable:
            make_trainable(model, config.trainable, config.seed)
        else:
            train_from(model.backbone, config.train_from)
            model.aggregation.requires_grad_(True)
        for name in config.fixed_layers:
            _layer(model, name).requires_grad_(False)
        self.learnt: dict[str, nn.Parameter] = {
            name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
        }
        """Parameters that learn, by their name in the model."""
        if not self.learnt:
            raise InputError(
                f"model {model.name!r} has nothing left that learns; set train_from or fixed_layers"
            )
        self.frozen, self.trainable = _cut(model.backbone)
        """The backbone's frozen layers, and those from the first that learns on."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its arithmetic, but for bf16's backbone."""
        return torch.float64 if self._config.precision == "fp64" else torch.float32

    def features(self, images_NCHW: Tensor) -> Tensor:
        """What the frozen layers make of prepared photos, without gradient; the photos, if none is.

        Raises:
            InputError: photos of another shape, or too small for the network.
        """
        backbone = self.model.backbone
        height, width = images_NCHW.shape[2:]
        if isinstance(backbone, Backbone) and 0 in backbone.grid(height, width):
            backbone(images_NCHW[:1].to(self.model.device, self.dtype))  # says how large they must be
        features_NChw = self._placed(images_NCHW)
        with torch.no_grad(), self._mixed():
            for layer in self.frozen:
                features_NChw = layer(features_NChw)
        return features_NChw

    def describe(self, features_NChw: Tensor) -> Tensor:
        """Descriptors [N, D] of what `features` made; gradients flow to what learns."""
        features_NChw = self._placed(features_NChw)
        with self._mixed():
            for layer in self.trainable:
                features_NChw = layer(features_NChw)
        return self.model.pooled(features_NChw)

    @contextlib.contextmanager
    def describing(self) -> Iterator[None]:
        """Photos are described as by the model that is saved: no dropout, no gradient."""
        self.model.eval()
        with torch.no_grad():
            yield

    @contextlib.contextmanager
    def learning(self, seed: Sequence[int]) -> Iterator[None]:
        """Photos are learnt from; what is drawn (dropout) depends on `seed` alone."""
        self.model.train()
        for module in self.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                parameters = list(module.parameters())
                frozen = parameters and not any(parameter.requires_grad for parameter in parameters)
                if frozen or self._config.batch_norm == "fixed":
                    module.eval()
        device = self.model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            self.reseed(seed)
            try:
                yield
            finally:
                self.model.eval()

    def reseed(self, seed: Sequence[int]) -> None:
        """Within `learning`: what is drawn next depends on `seed` alone."""
        if self.model.device.type == "cpu":  # the other way notes a stack trace for each kind of GPU
            torch.default_generator.manual_seed(combined_seed(seed))
        else:
            torch.manual_seed(combined_seed(seed))

    def _placed(self, tensor_NCHW: Tensor) -> Tensor:
        """Where and how the layers take it; bfloat16's are faster with the channels last."""
        order = torch.channels_last if self._bf16 else torch.preserve_format
        return tensor_NCHW.to(self.model.device, self.dtype, memory_format=order)

    @property
    def _bf16(self) -> bool:
        return self._config.precision == "bf16"

    def _mixed(self) -> torch.autocast:
        return torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=self._bf16)


def combined_seed(parts: Sequence[int]) -> int:
    """What torch takes as a seed, of several numbers."""
    return int(np.random.SeedSequence(list(parts)).generate_state(1, np.uint64)[0] >> 1)


def _layer(model: PlaceModel, name: str) -> nn.Module:
    """A layer of the backbone, by its module's or its paper's name, or of the aggregation."""
    backbone = model.backbone
    located = backbone.locate(name) if isinstance(backbone, Backbone) else name
    modules = {**dict(backbone.named_modules()), **dict(model.named_modules())}
    if located not in modules or not located:
        raise UnknownNameError("layer", name, filter(None, modules))
    layer: nn.Module = modules[located]
    return layer


def _cut(backbone: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """(below, from the first layer that learns on); a network that is no chain is not cut."""
    if not any(p.requires_grad for p in backbone.parameters()):
        return [backbone], []
    if not isinstance(backbone, Backbone) or type(backbone).forward is not Backbone.forward:
        return [], [backbone]
    layers = list(_flat(backbone.children()))
    first = next(i for i, layer in enumerate(layers) if any(p.requires_grad for p in layer.parameters()))
    return layers[:first], layers[first:]


def _flat(layers: Iterator[nn.Module]) -> Iterator[nn.Module]:
    for layer in layers:
        if type(layer) is nn.Sequential:
            yield from _flat(layer.children())
        else:
            yield layer
