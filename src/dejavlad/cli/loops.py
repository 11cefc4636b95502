"""`dejavlad loops`: loop closures in a sequence, as it arrives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dejavlad.cli.options import ModelOptions, Verify, point_setting
from dejavlad.cli.sources import PhotoOptions
from dejavlad.cli.terminal import Flag, Output, command_line
from dejavlad.errors import InputError
from dejavlad.progress import OnProgress, timed

if TYPE_CHECKING:
    from dejavlad.extraction import DescriptorStore
    from dejavlad.photo import PhotoList
    from dejavlad.pipelines.loop_closures import LoopSetting, LoopTruth


@Parameter(name="*", group="Loops")
@dataclass(frozen=True)
class LoopOptions:
    """When a frame closes a loop, and what tells that it does."""

    window: Annotated[int | None, Parameter(allow_leading_hyphen=True)] = None
    """Frames just before each that do not count, as they show what it shows (default: 30). Where photos
    are missing from a numbered sequence, the numbers in the names are counted."""
    sequence: Annotated[int, Parameter(allow_leading_hyphen=True)] = 1
    "So many frames decide together, along lines of about the same speed; 1: each frame by itself."
    threshold: Annotated[float | None, Parameter(allow_leading_hyphen=True)] = None
    "Score from which on a loop is given (default: where it stands out from what else the sequence shows)."
    verify: Verify | None = None
    """Give those loops whose frames agree in space as neighbouring frames do, by these local features
    (`auto`: the best that is installed): the confidence is then geometry's. Default: auto; none for a store
    of descriptors, and where --truth or --threshold is given."""
    truth: str | None = None
    """Which frames show one place: a square bitmap or matrix (`.bmp`, `.png`, `.npy`, `.mat`), poses (`.txt`
    of KITTI or TUM, COLMAP's `images.txt` or `images.bin`), or `positions:5` (metres)."""
    radius: float | None = None
    "Metres within which two frames show one place, where poses or positions tell (default: 5)."
    both_ways: Flag = False
    """Also measure as the TensorFlow port of NetVLAD does on KITTI: each frame's nearest of all, later ones
    included, by the first 128 dimensions alone. The truth must be poses."""

    def setting(self, output: Output, *, stored: bool) -> LoopSetting:
        """As the search for loops takes it; `stored`: of descriptors rather than of photos."""
        from dejavlad.pipelines.loop_closures import LoopSetting
        from dejavlad.places.loops import WINDOW

        by_looks = stored or self.truth is not None or self.threshold is not None
        points = point_setting(self.verify or ("none" if by_looks else "auto"), output)
        window = WINDOW if self.window is None else self.window
        setting = LoopSetting(window, self.sequence, self.threshold, points)
        if self.radius is not None and self.truth is None:
            raise InputError("--radius says which frames are right; give --truth too")
        return setting

    def right(self, frames: PhotoList) -> LoopTruth | None:
        """Which of the frames show one place; None where that is not given."""
        from dejavlad.pipelines.loop_closures import LoopTruth

        if self.truth is not None:
            return LoopTruth.read(self.truth, frames, self.radius, both_ways=self.both_ways)
        if self.both_ways:
            raise InputError("--both-ways compares with poses; give --truth POSES too")
        return None


def loops(
    photos: str,
    /,
    *,
    out: Path,
    model: str | None = None,
    detection: LoopOptions = LoopOptions(),
    sources: PhotoOptions = PhotoOptions(),
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Loop closures: which frames of a sequence show a place seen before, told from what came before.

    Writes `loops.csv` (each frame with the earlier one that it resembles most: i, j, score, confidence),
    `predictions.txt` (the loops given, for `dejavlad pairs`), `result.json` and a page.

    Examples:

        dejavlad loops drive/ --model rootsift-vlad --window 30 --out loops
        dejavlad loops image_2/ --model MODEL --window 250 --sequence 5 --truth poses/00.txt --out loops
        dejavlad loops drive/ --out loops
        dejavlad loops frames.desc --truth samples_GT.bmp --out loops

    Parameters
    ----------
    photos
        The sequence in its order: a folder, a list, a video, or a store of descriptors (without --model).
    out
        The folder of the results; run again, it goes on where it stopped.
    model
        A model's name or folder. One that learns from photos learns from these. Left out, the best that works
        here without a download.
    """
    frames, store = _frames(photos, sources, detection.truth)
    from dejavlad.pipelines.loop_closures import loops as find_loops

    seconds: dict[str, float] = {}
    setting = detection.setting(output, stored=store is not None)
    if store is not None:
        options.refuse_of_model(repr(photos), model)
    _tell(frames, output)
    right = detection.right(frames)
    with output.progress() as on_progress:
        if store is None:
            with timed(seconds, "describe"):
                store = _described(frames, options.chosen(model, output), out, options, on_progress)
        result = find_loops(
            store,
            frames,
            out,
            setting,
            truth=right,
            device=options.resolved_device,
            seconds=seconds,
            command=command_line(),
            on_progress=on_progress,
        )
    output.answer(result.document, f"{result}\nopen {result.page}")
    output.failures(store.failed, "frame", "frames")


def _described(
    frames: PhotoList, model: str, out: Path, options: ModelOptions, on_progress: OnProgress
) -> DescriptorStore:
    """Descriptors of the frames, kept in the folder of the results."""
    from dejavlad.extraction import extract

    return extract(
        options.fitted(options.load(model, on_progress), frames, out / "model", on_progress),
        frames,
        out / "frames",
        batch_size=options.batch_size,
        workers=options.workers,
        on_progress=on_progress,
    )


def _tell(frames: PhotoList, output: Output) -> None:
    """What is to be said of the sequence."""
    from dejavlad.ground_truth.frames import sequence_numbers

    output.notes(frames)
    numbers = sequence_numbers(frames)
    if numbers is not None:
        missing = int(numbers[-1] - numbers[0]) + 1 - len(numbers)
        output.note(
            f"the window counts frames by the numbers in the names of {frames.name}; {missing:,} are missing"
        )


def _frames(given: str, sources: PhotoOptions, truth: str | None) -> tuple[PhotoList, DescriptorStore | None]:
    """The sequence, and its descriptors where these were given."""
    what = "a sequence of photos or its store of descriptors (`dejavlad extract`)"
    listed, store = sources.photos_or_store(given, what)
    if store is None and truth is not None and Path(truth).is_file():  # a bitmap may lie among the photos
        keep = [i for i, photo in enumerate(listed) if photo.path.resolve() != Path(truth).resolve()]
        listed = listed.take(keep)
    return listed, store
