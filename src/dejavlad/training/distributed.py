"""The processes that train together, each on its GPU: who they are, and how they tell each other.

They are started by ``torchrun``, on one machine or several, and run the same program; Lightning Fabric joins
them. Whatever one of them decides (what is drawn, chosen, read from disk) is decided by one, and sent to all.
A process alone needs nothing of that: it is `ALONE`.

Legend: P processes, n rows of one of them, D numbers of a row.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dejavlad.errors import DejavladError, InputError, MissingExtraError, PeerError

T = TypeVar("T")

PATIENCE = timedelta(hours=6)
"""How long a process waits for another that is busy alone, as the first is with clusters; one that has ended
is noticed at once."""


class Processes:
    """One process, alone. See `Joined` for several.

    What several do together, all of them must call in the same order.
    """

    rank: int = 0
    """Which of the processes this one is."""
    count: int = 1
    """P, how many processes there are."""
    on_machine: int = 1
    """How many of them run on this machine."""
    device: torch.device | None = None
    """Where this one computes; None: where the model is."""

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether this is the only process."""
        return self.count == 1

    def share(self, make: Callable[[], T]) -> T:
        """What the first process makes; on the others a copy of it, and `make` is not called.

        Raises:
            PeerError: on the others, where the first could not make it.
        """
        return make()

    def gather(self, value: T) -> list[T]:
        """Each process's value [P], in their order, on all of them."""
        return [value]

    def gather_rows(self, rows_nD: Tensor) -> list[Tensor]:
        """Each process's rows [P] of [n, D], on all of them; each has its own n."""
        return [rows_nD]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes; where one has none, it counts as 0."""

    def sum_rows(self, rows_nD: Tensor) -> None:
        """Add up rows that all processes have, in place."""


ALONE = Processes()


class Joined(Processes):
    """Processes that ``torchrun`` started, joined by a Fabric that is launched."""

    def __init__(self, fabric: Any) -> None:
        self._fabric = fabric
        self.rank, self.count = int(fabric.global_rank), int(fabric.world_size)
        self.on_machine = _from_environment("LOCAL_WORLD_SIZE")
        self.device = fabric.device

    def share(self, make: Callable[[], T]) -> T:
        """Broadcast what the first process makes; where that fails, all processes raise."""
        made: Any = None
        failed: BaseException | None = None
        if self.first:
            try:
                made = make()
            except BaseException as error:
                failed = error
        with self._peers():
            message = ("failed", f"{failed}") if failed is not None else ("made", made)
            status, value = self._fabric.broadcast(message if self.first else None)
        if failed is not None:
            raise failed
        if status == "failed":
            raise PeerError(self.count, f" ({value})")
        return made if self.first else value  # type: ignore[no-any-return]

    def gather(self, value: T) -> list[T]:
        """Gather a value that can be pickled from each process."""
        values: list[Any] = [None] * self.count
        with self._peers():
            torch.distributed.all_gather_object(values, value)
        return values

    def gather_rows(self, rows_nD: Tensor) -> list[Tensor]:
        """Gather rows of different numbers: padded to the longest, and cut again."""
        counts = self.gather(len(rows_nD))
        padded = torch.zeros(max(counts), *rows_nD.shape[1:], dtype=rows_nD.dtype, device=self.device)
        padded[: len(rows_nD)] = rows_nD.detach()
        gathered = [torch.empty_like(padded) for _ in counts]
        with self._peers():
            torch.distributed.all_gather(gathered, padded)
        return [rows[:n].to(rows_nD.device) for rows, n in zip(gathered, counts, strict=True)]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of each parameter over the processes, in place."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            self.sum_rows(parameter.grad)

    def sum_rows(self, rows_nD: Tensor) -> None:
        """Sum a tensor of one shape over the processes, in place."""
        with self._peers():
            rows_nD.copy_(self._fabric.all_reduce(rows_nD, reduce_op="sum"))

    @contextlib.contextmanager
    def _peers(self) -> Iterator[None]:
        """A connection that breaks means that another process has ended."""
        try:
            yield
        except DejavladError:
            raise
        except RuntimeError as error:
            raise PeerError(self.count) from error


def join(device: torch.device | None) -> Processes:
    """The processes that this one was started with, or `ALONE`.

    Args:
        device: where to compute: its kind counts, each process takes its own of that kind. None: a GPU for
            each process where there are GPUs, else the processor.

    Raises:
        InputError: a device that several processes cannot share, or more processes on a machine than it has
            GPUs.
        MissingExtraError: Lightning Fabric is not installed.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or _from_environment("WORLD_SIZE") == 1:
        return ALONE
    kind = device.type if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
    here = _from_environment("LOCAL_WORLD_SIZE")
    if kind not in ("cuda", "cpu") or (device is not None and device.index is not None):
        raise InputError(f"several processes cannot share device {str(device)!r}; give --device cuda or cpu")
    if kind == "cuda" and here > torch.cuda.device_count():
        raise InputError(
            f"torchrun started {here} processes on this machine, which has {torch.cuda.device_count()} GPUs; "
            "give --nproc-per-node gpu"
        )
    return _join(kind)


@functools.cache
def _join(kind: str) -> Joined:
    """The launched processes; made once, as they can be joined only once."""
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError:
        raise MissingExtraError("training by several processes", "distributed") from None
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    here, count = _from_environment("LOCAL_WORLD_SIZE"), _from_environment("WORLD_SIZE")
    strategy = DDPStrategy(timeout=PATIENCE)
    fabric = Fabric(accelerator=kind, devices=here, num_nodes=count // here, strategy=strategy)
    fabric.launch()
    return Joined(fabric)


def is_first() -> bool:
    """Whether this process writes and reports: alone, or the first of those that ``torchrun`` started."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"


def _from_environment(name: str) -> int:
    return int(os.environ.get(name, "1"))
