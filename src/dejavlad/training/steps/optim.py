"""What takes the steps, and its state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dejavlad.errors import CheckpointError
from dejavlad.training.config.options import TrainConfig

PREFIX = "optimizer"


def make_optimizer(learnt: Mapping[str, nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser that the options name, at the rate of the beginning.

    SGD is that of ``trainWeakly.m``: ``m = momentum m + decay w + g``, ``w -= rate m``.
    """
    parameters = list(learnt.values())
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
    make = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return make(parameters, config.learning_rate, weight_decay=config.weight_decay)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, learnt: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Its state, momentum and the like, by ``optimizer/PARAMETER/KEY``."""
    tensors = {}
    for name, parameter in learnt.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{PREFIX}/{name}/{key}"] = value.detach().clone()
    return tensors


def load_optimizer(
    optimizer: torch.optim.Optimizer, learnt: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Bring back the state that `optimizer_tensors` copied.

    Raises:
        CheckpointError: it is of another network.
    """
    for name in tensors:
        if not name.startswith(f"{PREFIX}/"):
            continue
        _, learnt_name, key = name.split("/")
        if learnt_name not in learnt:
            raise CheckpointError(f"the optimiser's state is of {learnt_name!r}, which does not learn here")
        value = tensors[name]
        parameter = learnt[learnt_name]
        if value.ndim:  # a count of steps stays on the processor, where Adam keeps it
            value = value.to(parameter.device, parameter.dtype)
        optimizer.state[parameter][key] = value.clone()
