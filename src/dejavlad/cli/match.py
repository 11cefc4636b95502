"""`dejavlad match`: do two photos show one place? Or a camera, or a video, and a photo?"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from dejavlad.cli.options import ModelOptions, numbers, point_setting
from dejavlad.cli.terminal import Output, table
from dejavlad.errors import InputError, PhotoError

if TYPE_CHECKING:
    from dejavlad.model.place_model import PlaceModel
    from dejavlad.photo import Photo
    from dejavlad.places.live import Live, LiveFrame
    from dejavlad.places.pair import PairMatch, PairSetting
    from dejavlad.places.verification.point_pair import PointPair
    from dejavlad.report.figures.video import MatchVideo

POOR = (
    "the model has learnt its vocabulary from these photos alone; one learnt from many compares better: "
    "give --model MAP"
)
PATCH_MODEL, PATCH_PRESET = "rootsift-vlad", "performance"
"""What patches are made and compared by, unless told."""
LEARN_FROM = 8
"""Frames of a video that a model learns from, where it must."""


@Parameter(name="*", group="Patches")
@dataclass(frozen=True)
class PatchOptions:
    """What patches are made of, and how they are compared."""

    model: str | None = None
    """A model's name, a model folder, or a map (default: `rootsift-vlad`). A model that learns its vocabulary
    from photos learns it from these two alone, which works, but poorly: give a map, whose model has learnt
    from all its photos."""
    preset: str | None = None
    """`performance` (the default: 2, 5 and 8 cells, by RANSAC), `speed`, `storage`, or your own file; what
    follows takes the place of its values."""
    sizes: str | None = None
    "Sides of the patches in cells of the feature map, with commas between."
    strides: str | None = None
    "For each size, cells from one patch to the next (default: 1)."
    size_weights: str | None = None
    "For each size, what its score counts (default: all alike with sum 1)."

    @property
    def given(self) -> bool:
        """Whether any of them is, so that patches are meant."""
        return any((self.model, self.preset, self.sizes, self.strides, self.size_weights))

    def setting(self, matcher: str | None, options: ModelOptions) -> PairSetting:
        """As `match_pair` takes it."""
        from dejavlad.model import PatchSetting
        from dejavlad.places.pair import PairSetting
        from dejavlad.places.preset import load_preset

        preset = load_preset(self.preset or PATCH_PRESET)
        sizes = preset.sizes if self.sizes is None else numbers("--sizes", self.sizes)
        strides = () if self.strides is None else numbers("--strides", self.strides)
        if self.sizes is None and self.strides is None:
            strides = preset.strides
        weights = preset.weights if sizes == preset.sizes else ()
        if self.size_weights is not None:
            weights = _weights(self.size_weights)
        patches = PatchSetting(sizes, strides, options.one_dims)
        return PairSetting(patches, matcher or preset.matcher, weights)


@Parameter(name="*", group="Camera or video")
@dataclass(frozen=True)
class FrameOptions:
    """Frames that are compared with a reference, by patches."""

    camera: Annotated[list[int] | None, Parameter(consume_multiple=True, negative=())] = None
    "Compare what this camera sees (default: camera 0) until Ctrl-C."
    video: Path | None = None
    "Compare the frames of this video."
    reference: str | None = None
    "What frames are compared with: a photo, or the number of a frame (default: the first frame)."
    every: int = 1
    "Compare every N-th frame."
    known_from: float | None = None
    "Share of a perfect score from which on a frame counts as the place of the reference."
    out: Path | None = None
    "Write the frames, with lines between matching patches, into this video (.mp4, .avi)."

    @property
    def given(self) -> bool:
        """Whether frames are to be compared."""
        return self.camera is not None or self.video is not None

    @property
    def source(self) -> Path | int:
        """The video, or the camera's number.

        Raises:
            InputError: several cameras.
        """
        if self.camera is not None and len(self.camera) > 1:
            raise InputError(f"--camera takes the number of one camera; given {self.camera}")
        return self.video if self.video is not None else self.camera[0] if self.camera else 0


def match(
    a: str | None = None,
    b: str | None = None,
    /,
    *,
    matcher: Literal["auto", "sift", "xfeat", "aliked", "disk", "lightglue", "ransac", "rapid"] | None = None,
    figure: Path | None = None,
    patches: PatchOptions = PatchOptions(),
    frames: FrameOptions = FrameOptions(),
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Do two photos show the same place? A probability, and a figure of the points that match.

    With a matcher of patches (or a model), Patch-NetVLAD's score instead; a camera or a video is compared by
    patches with a reference, frame by frame.

    Examples:

        dejavlad match a.jpg b.jpg --figure match.png
        dejavlad match a.jpg b.jpg --model town.map --matcher rapid
        dejavlad match --video drive.mp4 --reference a.jpg --every 5 --out compared.mp4
        dejavlad match --camera

    Parameters
    ----------
    a
        The first photo; it plays the query.
    b
        The second, of any size and aspect.
    matcher
        Local features whose points must agree in space: `auto` (the default) takes the best that is
        installed; `sift`, `xfeat`, `aliked`, `disk`; `lightglue` matches XFeat's points by a network. Or of
        patches: `ransac` counts those that one homography explains, `rapid` how alike they have moved.
    figure
        Draw the matching patches into this file (.png, .jpg).
    """
    by_patches = matcher in ("ransac", "rapid") or (matcher is None and (frames.given or patches.given))
    if not by_patches:
        _refuse_patches(matcher, patches, frames, options)
    if frames.given:
        if a is not None or figure is not None or (frames.camera is not None and frames.video is not None):
            raise InputError("give two photos, or --camera, or --video FILE, and only one of these")
        _live(frames, patches.model or PATCH_MODEL, patches.setting(matcher, options), options, output)
        return
    if frames.out is not None or frames.reference is not None:
        raise InputError("--out and --reference are for --camera and --video; a pair is drawn by --figure")
    if a is None or b is None:
        raise InputError("give two photos, or --camera, or --video FILE")
    for photo in (a, b):
        if not Path(photo).exists():
            raise PhotoError(photo, "there is no such file")
    if by_patches:
        _pair(a, b, patches, matcher, figure, options, output)
    else:
        _points(a, b, matcher or "auto", figure, options, output)


def _refuse_patches(
    matcher: str | None, patches: PatchOptions, frames: FrameOptions, options: ModelOptions
) -> None:
    """Raises InputError for what patches alone are compared by."""
    if frames.given:
        raise InputError(
            f"a camera or a video is compared by patches: --matcher ransac or rapid, not {matcher}"
        )
    if patches.given or options.of_model:
        named = f" ({', '.join(options.of_model)})" if options.of_model else ""
        raise InputError(
            f"models, presets and how photos are prepared{named} are for patches: give --matcher ransac or "
            "rapid, or leave them out"
        )


def _weights(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--size-weights {text!r}: give numbers with commas between") from None


def _opened(
    model: str, photos: list[Photo], setting: PairSetting, options: ModelOptions, output: Output
) -> PlaceModel:
    """The model, or that of a map; fitted."""
    from dejavlad.places.map_folder.state import is_map
    from dejavlad.places.pair import learnt_from

    with output.progress() as on_progress:
        of_map = Path(model) / "model" if is_map(Path(model)) else model
        base = options.load(str(of_map), on_progress)
        fitted = learnt_from(
            base, photos, setting.patches, seed=options.seed, workers=options.workers, on_progress=on_progress
        )
    if not base.fitted:
        output.note(POOR)
    return fitted


def _points(a: str, b: str, matcher: str, figure: Path | None, options: ModelOptions, output: Output) -> None:
    """Compare by local features."""
    from dejavlad.photo.photo import as_photo
    from dejavlad.places.verification.point_pair import match_points
    from dejavlad.report.figures.figure_file import check_figure
    from dejavlad.report.point_figure import write_point_figure
    from dejavlad.rerank import PointReranker

    if figure is not None:
        check_figure(figure)
    setting = point_setting("xfeat" if matcher == "lightglue" else matcher, output)
    assert setting is not None
    setting = setting.chosen()
    device, offline = options.resolved_device, options.offline or None
    with output.progress() as on_progress:
        extractor = setting.extractor(device=device, offline=offline, on_progress=on_progress)
        reranker = setting.reranker()
        if matcher == "lightglue":
            from dejavlad.local.lightglue import LightGlueMatcher

            glue = LightGlueMatcher(offline=offline, on_progress=on_progress)
            reranker = PointReranker(glue, setting.verification)
    started = time.perf_counter()
    pair = match_points(extractor, as_photo(Path(a)), as_photo(Path(b)), reranker)
    seconds = round(time.perf_counter() - started, 3)
    if figure is not None:
        write_point_figure(pair, figure)
    known = {"matcher": matcher if matcher == "lightglue" else setting.kind}
    _answer(pair, f"{pair}\n{seconds:.2f} s by {known['matcher']}", known, seconds, figure, output)


def _pair(
    a: str,
    b: str,
    given: PatchOptions,
    matcher: str | None,
    figure: Path | None,
    options: ModelOptions,
    output: Output,
) -> None:
    """Compare by patches."""
    from dejavlad.photo.photo import as_photo
    from dejavlad.places.pair import match_pair
    from dejavlad.report.figures.figure import write_match_figure
    from dejavlad.report.figures.figure_file import check_figure

    setting = given.setting(matcher, options)
    if figure is not None:
        check_figure(figure)
    photos = [as_photo(Path(a)), as_photo(Path(b))]
    opened = _opened(given.model or PATCH_MODEL, photos, setting, options, output)
    started = time.perf_counter()
    pair = match_pair(opened, photos[0], photos[1], setting)
    seconds = round(time.perf_counter() - started, 3)
    if figure is not None:
        write_match_figure(pair, figure, rotate=opened.preprocess.rotate)
    model = {"name": opened.title, "fingerprint": opened.fingerprint}
    known = {"matcher": setting.matcher, "model": model}
    _answer(pair, f"{_table(pair)}\n{seconds:.2f} s", known, seconds, figure, output)


def _answer(
    pair: PairMatch | PointPair,
    text: str,
    known: dict[str, Any],
    seconds: float,
    figure: Path | None,
    output: Output,
) -> None:
    text += ", after loading" + ("" if figure is None else f"\nopen {figure}")
    drawn = None if figure is None else str(figure)
    output.answer(pair.to_dict() | known | {"seconds": seconds, "figure": drawn}, text)
    output.failures(pair.blank)


def _table(pair: PairMatch) -> str:
    rows = [
        (f"{size}x{size} cells", f"{inliers:,}", f"{count:,}", f"{0.0 - match.score:.5f}")
        for size, inliers, count, match in zip(
            pair.sizes, pair.inliers, pair.counts, pair.matches, strict=True
        )
    ]
    return (
        f"score {pair.score:.5f}  (larger is a better match; a photo and itself score {pair.best:,.5g})\n\n"
        + table(("patches", "matching", "of", "score"), rows, right=(1, 2, 3))
    )


def _live(
    given: FrameOptions, model: str, setting: PairSetting, options: ModelOptions, output: Output
) -> None:
    """Compare frames with a reference until there are no more."""
    from dejavlad.places.live import Frames, Live, reference_photo, shows_anything, spread_frames
    from dejavlad.places.pair import PairMatcher
    from dejavlad.report.figures.video import MatchVideo

    source, out = given.source, given.out
    chosen = reference_photo(given.reference, source)
    with ExitStack() as stack:
        frames = stack.enter_context(Frames(source, every=given.every))
        drawn = stack.enter_context(MatchVideo(out, frames.rate / given.every)) if out is not None else None
        coming = iter(frames)
        first, n_blank = next(coming, None), 0
        while chosen is None and first is not None and not shows_anything(first):
            first, n_blank = next(coming, None), n_blank + 1
        if first is None:
            raise InputError(f"{frames.name}: no frame can be read" + " and shows anything" * bool(n_blank))
        chosen = first if chosen is None else chosen
        learnt = [chosen] if isinstance(source, int) else [chosen, *spread_frames(source, LEARN_FROM)]
        opened = _opened(model, learnt, setting, options, output)
        live = Live(PairMatcher(opened, setting), chosen, known_from=given.known_from)
        live.blank = n_blank
        with suppress(KeyboardInterrupt):  # how a camera is ended
            _compare(live, chain([first], coming), drawn, output)
    if not output.json and not output.quiet and sys.stderr.isatty():
        print(file=sys.stderr)
    _summary(live, frames.failed, out, output)


def _compare(live: Live, photos: Iterable[Photo], drawn: MatchVideo | None, output: Output) -> None:
    """Compare one frame after another, and show it; the window's keys end it or change the reference."""
    from dejavlad.cli.window import Window
    from dejavlad.report.figures.video import live_picture

    rotate = live.matcher.model.preprocess.rotate
    window = Window.open()
    with nullcontext() if window is None else closing(window):
        for photo in photos:
            frame = live.compare(photo)
            _say(frame, output)
            if drawn is None and window is None:
                continue
            picture = live_picture(frame, rotate=rotate)
            if drawn is not None:
                drawn.write(picture)
            key = window.show(picture) if window is not None else ""
            if key == "q":
                break
            if key == "n":
                live.take_reference()


def _summary(live: Live, n_unread: int, out: Path | None, output: Output) -> None:
    summary: dict[str, Any] = {
        "frames": live.compared,
        "known": live.known,
        "passed_over": n_unread,
        "n_unread": n_unread,
        "n_blank": live.blank,
        "reference": live.reference.key,
        "out": None if out is None else str(out),
    }
    if output.json:
        print(json.dumps({"summary": summary}, ensure_ascii=False), flush=True)
        return
    text = f"{live.compared:,} frames compared with {live.reference.key}: {live.known:,} show its place"
    if n_unread:
        text += f"; {n_unread:,} could not be read"
    if live.blank:
        text += f"; {live.blank:,} {'shows' if live.blank == 1 else 'show'} nothing"
    output.answer(summary, text + (f"\nopen {out}" if out is not None else ""))


def _say(frame: LiveFrame, output: Output) -> None:
    """One line of JSON on standard output; else a line on standard error, written over where that can be."""
    if output.json:
        print(json.dumps(frame.to_dict(), ensure_ascii=False, allow_nan=False), flush=True)
    elif not output.quiet:
        over = sys.stderr.isatty()
        line = f"\r\x1b[K{str(frame)[: shutil.get_terminal_size().columns - 1]}" if over else f"{frame}\n"
        print(line, end="", file=sys.stderr, flush=True)
