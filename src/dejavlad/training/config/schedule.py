"""What the options make of each epoch and batch; equivalent to the counting of ``trainWeakly.m``."""

from __future__ import annotations

import math

from dejavlad.training.config.options import TrainConfig


def n_batches(n_queries: int, config: TrainConfig) -> int:
    """Steps of an epoch that goes through all queries."""
    if config.quirk("drop_remainder"):
        return n_queries // config.batch_size
    return -(-n_queries // config.batch_size)


def falls(config: TrainConfig, epoch: int) -> bool:
    """Whether the learning rate falls at the beginning of an epoch; these count from 1."""
    if config.lr_schedule == "linear":
        return False
    if config.lr_down_every == 1:
        return epoch > 1 and not config.quirk("lr_every_one")
    return epoch > 1 and epoch % config.lr_down_every == 1


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """The learning rate of an epoch (from 1) by its steps alone, without warm-up and linear fall."""
    rate = config.learning_rate
    for earlier in range(1, epoch + 1):
        if falls(config, earlier):
            rate /= config.lr_down_factor
    return rate


def rate(config: TrainConfig, epoch: int, batch: int, n: int) -> float:
    """The learning rate of a batch of an epoch of n; batches count from 1."""
    done = (epoch - 1) * n + batch - 1
    epoch_rate = learning_rate(config, epoch)
    if done < config.lr_warmup:
        return epoch_rate * (done + 1) / config.lr_warmup
    if config.lr_schedule == "linear":
        whole = max(config.epochs * n, config.lr_warmup + 1)
        return epoch_rate * (whole - done) / (whole - config.lr_warmup)
    return epoch_rate


def refresh_every(config: TrainConfig, epoch: int) -> int:
    """Batches after which all photos are described anew, in an epoch."""
    batches = -(-config.refresh_every // config.batch_size)
    for earlier in range(1, epoch + 1):
        if falls(config, earlier) and config.refresh_slows:
            batches = max(1, math.floor(batches * config.lr_down_factor + 0.5))
    return batches


def refreshes(config: TrainConfig, epoch: int, batch: int, n: int) -> bool:
    """Whether photos are described anew before a batch of an epoch of n; batches count from 1."""
    if not config.mines:
        return False
    if config.mining == "subcache":
        return (batch - 1) % (config.cached_queries // config.batch_size) == 0
    return batch % refresh_every(config, epoch) == 0 and batch not in (1, n)


def saves(config: TrainConfig, batch: int) -> bool:
    """Whether a checkpoint is made before a batch."""
    if not config.save_every or batch == 1:
        return False
    return batch % -(-config.save_every // config.batch_size) == 0
