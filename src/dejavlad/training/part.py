"""One of the two datasets of a run, training or validation: its photos and what is known of them."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dejavlad.datasets import PlaceDataset, Truth, truth_positions
from dejavlad.images import Preprocess
from dejavlad.progress import OnProgress
from dejavlad.training.album import Album
from dejavlad.training.config import TrainConfig
from dejavlad.training.frozen_maps import FrozenMaps, MappedMaps, plan_frozen_maps
from dejavlad.training.network import Network
from dejavlad.training.processes import ALONE, Processes
from dejavlad.training.tuples import Candidates


class Part:
    """A dataset that is learnt from, or tested on.

    Args:
        dataset: its photos, with positions.
        candidates: who may be what.
        preprocess: how photos are prepared.
        config: the options.
        on_progress: told while photos are looked at.

    Raises:
        InputError: no photo can be read, or positions that cannot be compared.
    """

    def __init__(
        self,
        dataset: PlaceDataset,
        candidates: Candidates,
        preprocess: Preprocess,
        config: TrainConfig,
        on_progress: OnProgress,
    ) -> None:
        self.candidates = candidates
        self.album = Album(dataset, preprocess, workers=config.workers, on_progress=on_progress)
        self._radius = config.negative_radius
        self.maps: FrozenMaps | None = None
        """What the frozen layers make of its photos, where that is kept."""
        self._told: set[int] = set()

    @functools.cached_property
    def truth(self) -> Truth:
        """What counts as right in tests.

        Raises:
            InputError: nothing tells.
        """
        dataset = self.album.dataset
        return dataset.truth or truth_positions(dataset.database, dataset.queries, self._radius)

    def require_truth(self) -> None:
        """Find out what counts as right, now.

        Raises:
            InputError: nothing tells.
        """
        _ = self.truth

    def newly_failed(self) -> dict[int, str]:
        """Number of a photo -> why it failed, since the last call; they are no candidates any more."""
        new = {n: why for n, why in self.album.failed.items() if n not in self._told}
        self._told |= new.keys()
        queries = self.album.n_queries
        self.candidates.leave_out([number - queries for number in new if number >= queries])
        return new


def keep_maps(
    parts: Mapping[str, Part],
    network: Network,
    config: TrainConfig,
    folder: Path,
    on_progress: OnProgress,
    processes: Processes = ALONE,
) -> Iterator[dict[str, Any]]:
    """Compute what the frozen layers make of all photos, where there is room to keep it.

    Args:
        parts: name -> photos; the first has the first claim on memory.
        network: its frozen layers.
        config: how much room there is.
        folder: for files.
        on_progress: told as it goes.
        processes: each keeps its part, in a folder of its own; those of one machine share the room. All of
            them keep, or none.

    Yields:
        For each part, in plain values, whether its maps are kept, why, and what for.

    Raises:
        InputError: they are to be kept where there is no room, or do not fit into their type.
        StoreError: they cannot be written.
    """
    left = config.frozen_maps_gb * 1e9 / processes.on_machine
    whose = "" if processes.alone else f"-{processes.rank + 1}-of-{processes.count}"
    processes.share(lambda: _leave_only(folder, parts, processes.count))
    for name, part in parts.items():
        there = folder / f"maps-{name}{whose}"
        maps, why = plan_frozen_maps(network, part.album, config, there, left, processes)
        lacking = [one for one, kept in processes.gather((why, maps is not None)) if not kept]
        if lacking:
            maps, why = None, lacking[0]
        if maps is not None:
            left -= 0 if isinstance(maps, MappedMaps) else maps.layout.n_bytes
            maps.fill(network, part.album, config.describe_batch, on_progress, processes)
            part.album.agree(processes)
        part.maps = maps
        serves = "mining only" if config.jitters else "mining and steps"
        yield {"set": name, "kept": maps is not None, "why": why, "serves": serves}


def _leave_only(folder: Path, names: Iterable[str], count: int) -> None:
    """Delete maps that another number of processes kept; they would take room."""
    for name in names:
        ours = {f"maps-{name}"} if count == 1 else {f"maps-{name}-{i + 1}-of-{count}" for i in range(count)}
        for there in folder.glob(f"maps-{name}*"):
            if there.name not in ours:
                shutil.rmtree(there, ignore_errors=True)
