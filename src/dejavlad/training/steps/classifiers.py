"""The layers that tell classes apart: one for each group and view, each with an optimiser of its own.

They serve training alone and are in no model that a run writes. Only those of the group whose turn it is lie
where the network computes; the others wait in the processor's memory, as large cities have many classes.

Legend: C classes, D numbers of a descriptor, U photos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dejavlad.errors import CheckpointError
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.losses.large_margin import Classified, large_margin
from dejavlad.training.sampling.classes import ClassGroup

PREFIX = "classifier"
WEIGHT = "weight"


class Classifiers:
    """Weights and Adam's state of all classifiers.

    Args:
        groups: the classes; a classifier is known by its group's number and its view.
        dims: D.
        config: see its ``classifier_rate``, ``margin``, ``margin_scale`` and ``seed``, of their first values.
        device: where the network computes.
        dtype: in which it does.
    """

    def __init__(
        self,
        groups: Sequence[ClassGroup],
        dims: int,
        config: TrainConfig,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._config, self._device = config, device
        self._waiting: dict[str, dict[str, Tensor]] = {}
        for number, group in enumerate(groups):
            for i, (view, classes) in enumerate(group.views.items()):
                seed = int(np.random.SeedSequence([config.seed, number, i, 8]).generate_state(1)[0])
                weight_CD = torch.empty(len(classes), dims)
                nn.init.xavier_uniform_(weight_CD, generator=torch.Generator().manual_seed(seed))
                self._waiting[_name(number, view)] = {WEIGHT: weight_CD.to(dtype)}
        self._current: dict[str, tuple[nn.Parameter, torch.optim.Adam]] = {}
        self._group: int | None = None

    def take(self, group: int) -> None:
        """Have the classifiers of a group where the network computes, without gradients; others wait."""
        if group != self._group:
            self._put_back()
            self._group = group
            prefix = _name(group, "")
            for name in [name for name in self._waiting if name.startswith(prefix)]:
                stored = dict(self._waiting[name])
                weight = nn.Parameter(stored.pop(WEIGHT).to(self._device, copy=True))
                optimizer = torch.optim.Adam([weight], self._config.classifier_rate)
                if stored:
                    # `step` stays on the processor, as Adam has it.
                    optimizer.state[weight] = {
                        key: value.to(self._device if value.ndim else "cpu", copy=True)
                        for key, value in stored.items()
                    }
                self._current[name] = weight, optimizer
        for weight, _ in self._current.values():
            weight.grad = None

    def losses(self, view: str, rows_UD: Tensor, labels_U: Tensor) -> Classified:
        """Of photos of the group that `take` named last."""
        assert self._group is not None
        weight_CD, _ = self._current[_name(self._group, view)]
        return large_margin(
            rows_UD.to(weight_CD.dtype),
            weight_CD,
            labels_U,
            scale=self._config.margin_scale,
            margin=self._config.margin,
        )

    def step(self) -> None:
        """A step of those that have gradients."""
        for _, optimizer in self._current.values():
            optimizer.step()

    @property
    def finite(self) -> bool:
        """Whether the weights that learn now are all finite."""
        return all(bool(torch.isfinite(weight).all()) for weight, _ in self._current.values())

    def tensors(self) -> dict[str, Tensor]:
        """All state as ``classifier/GROUP.VIEW/KEY``; of the current ones, copies that no step changes."""
        states = {**self._waiting, **{name: _state(*own) for name, own in self._current.items()}}
        return {
            f"{PREFIX}/{name}/{key}": tensor
            for name, state in states.items()
            for key, tensor in state.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Bring back what `tensors` gave.

        Raises:
            CheckpointError: it is of other classes.
        """
        stored: dict[str, dict[str, Tensor]] = {}
        for full, tensor in tensors.items():
            if full.startswith(f"{PREFIX}/"):
                name, _, key = full.removeprefix(f"{PREFIX}/").partition("/")
                stored.setdefault(name, {})[key] = tensor
        own = {name: state[WEIGHT].shape for name, state in self._waiting.items()}
        given = {name: state[WEIGHT].shape for name, state in stored.items() if WEIGHT in state}
        if given != own:
            differing = sorted(name for name in {*own, *given} if own.get(name) != given.get(name))
            raise CheckpointError(f"the checkpoint is of other classes: it differs in {differing[0]!r}")
        for name, state in stored.items():
            dtype = self._waiting[name][WEIGHT].dtype
            self._waiting[name] = {
                key: tensor.to("cpu", dtype if tensor.ndim else tensor.dtype) for key, tensor in state.items()
            }
        self._current, self._group = {}, None

    def _put_back(self) -> None:
        for name, own in self._current.items():
            self._waiting[name] = {key: tensor.cpu() for key, tensor in _state(*own).items()}
        self._current, self._group = {}, None


def _name(group: int, view: str) -> str:
    return f"{group}.{view}"


def _state(weight: nn.Parameter, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Copies of a classifier's weight and of what Adam keeps of it."""
    kept = optimizer.state.get(weight, {})
    return {
        WEIGHT: weight.detach().clone(),
        **{key: value.detach().clone() for key, value in kept.items() if isinstance(value, Tensor)},
    }
