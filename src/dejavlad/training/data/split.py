"""One of the two datasets of a run, training or validation: its photos and what is known of them."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dejavlad.ground_truth import PlaceDataset, Truth, truth_positions
from dejavlad.images import Preprocess
from dejavlad.training.context import RunContext
from dejavlad.training.data.frozen_maps import FrozenMaps, MappedMaps, plan_frozen_maps
from dejavlad.training.data.photo_pool import PhotoPool
from dejavlad.training.sampling.tuples import Candidates
from dejavlad.training.steps.network import Network


class Split:
    """A dataset that is learnt from, or tested on; `queries` says whether it must have some.

    Raises:
        InputError: no photo can be read, or positions that cannot be compared.
    """

    def __init__(
        self,
        dataset: PlaceDataset,
        candidates: Candidates,
        preprocess: Preprocess,
        context: RunContext,
        *,
        queries: bool = True,
    ) -> None:
        self.candidates = candidates
        self.pool = PhotoPool(
            dataset,
            preprocess,
            workers=context.config.workers,
            on_progress=context.on_progress,
            queries=queries,
        )
        self._radius = context.config.negative_radius
        self.maps: FrozenMaps | None = None
        """What the frozen layers make of its photos, where that is kept."""
        self._reported: set[int] = set()

    @functools.cached_property
    def truth(self) -> Truth:
        """What counts as right in tests.

        Raises:
            InputError: nothing tells.
        """
        dataset = self.pool.dataset
        return dataset.truth or truth_positions(dataset.database, dataset.queries, self._radius)

    def newly_failed(self) -> dict[int, str]:
        """Number of a photo -> why it failed, since the last call; they are no candidates any more."""
        new = {n: why for n, why in self.pool.failed.items() if n not in self._reported}
        self._reported |= new.keys()
        queries = self.pool.n_queries
        self.candidates.leave_out([number - queries for number in new if number >= queries])
        return new


def keep_maps(
    splits: Mapping[str, Split], network: Network, context: RunContext, folder: Path
) -> Iterator[dict[str, Any]]:
    """Compute what the frozen layers make of all photos, where there is room to keep it.

    Args:
        splits: name -> photos; the first has the first claim on memory.
        network: its frozen layers.
        context: how much room there is. Each process keeps the maps of its own photos, in a folder of its
            own; those of one machine share the room. All of them keep maps, or none.
        folder: for files.

    Yields:
        For each split, in plain values, whether its maps are kept, why, and what for.

    Raises:
        InputError: they are to be kept where there is no room, or do not fit into their type.
        StoreError: they cannot be written.
    """
    config, processes = context.config, context.processes
    budget_left = config.frozen_maps_gb * 1e9 / processes.on_machine
    suffix = "" if processes.alone else f"-{processes.rank + 1}-of-{processes.count}"
    processes.share(lambda: _leave_only(folder, splits, processes.count))
    for name, split in splits.items():
        if name == "train" and config.jitters and not config.mines:
            why = "photos are changed each time, and nothing is mined"
            yield {"set": name, "kept": False, "why": why, "serves": "nothing"}
            continue
        own_folder = folder / f"maps-{name}{suffix}"
        maps, why = plan_frozen_maps(network, split.pool, config, own_folder, budget_left, processes)
        lacking = [reason for reason, kept in processes.gather((why, maps is not None)) if not kept]
        if lacking:
            maps, why = None, lacking[0]
        if maps is not None:
            budget_left -= 0 if isinstance(maps, MappedMaps) else maps.layout.n_bytes
            maps.fill(network, split.pool, context)
            split.pool.agree(processes)
        split.maps = maps
        serves = "mining only" if config.jitters else "mining and steps"
        yield {"set": name, "kept": maps is not None, "why": why, "serves": serves}


def _leave_only(folder: Path, names: Iterable[str], count: int) -> None:
    """Delete maps that another number of processes kept; they would take room."""
    for name in names:
        own_names = (
            {f"maps-{name}"} if count == 1 else {f"maps-{name}-{i + 1}-of-{count}" for i in range(count)}
        )
        for stored in folder.glob(f"maps-{name}*"):
            if stored.name not in own_names:
                shutil.rmtree(stored, ignore_errors=True)
