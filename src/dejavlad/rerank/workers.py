"""Threads that work through candidates, one core each, and the memory they work in.

A candidate is many short steps, of which only the products are worth splitting over cores: whole candidates
side by side keep all of them busy.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

SHARES = 4
"""Shares of the work a core takes: few, as threads wake each other slowly; not one, as some take longer."""

In = TypeVar("In")
Out = TypeVar("Out")


def parallel_map(work: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """What `work` makes of each item, in order, over as many cores as torch may use."""
    cores, items = torch.get_num_threads(), list(items)
    if min(cores, len(items)) < 2:
        return [work(item) for item in items]
    share = -(-len(items) // (SHARES * cores))
    shares = [items[start : start + share] for start in range(0, len(items), share)]
    done = _workers(cores).map(lambda share: [work(item) for item in share], shares)
    return [made for share in done for made in share]


@cache
def _workers(cores: int) -> ThreadPoolExecutor:
    """Made once: within each thread torch computes on one core, elsewhere on as many as before."""
    ready = threading.Barrier(cores + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread takes over the common setting at its first need of it: not later
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(cores, thread_name_prefix="dejavlad-rerank", initializer=begin)
    for _ in range(cores):
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(cores)  # the setting is the thread's own, but is also what later threads start with
    return pool


class _Blocks(threading.local):
    def __init__(self) -> None:
        self.by_use: dict[str, NDArray[Any]] = {}


_blocks = _Blocks()


def scratch(use: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Memory of this thread's own to write into: not cleared, the same again at the next call for this use.

    Blocks of megabytes are otherwise fetched from the system and given back at every step, for which threads
    wait for each other: many times slower than what is computed in them.
    """
    count = math.prod(shape)
    block = _blocks.by_use.get(use)
    if block is None or block.dtype != dtype or block.size < count:
        block = _blocks.by_use[use] = np.empty(count, dtype)
    return block[:count].reshape(shape)
