from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dejavlad.decoders import open_video
from dejavlad.errors import PhotoError
from dejavlad.images import Preprocess, load_batches, plan_batches, read_image, read_size, video_frames
from dejavlad.images.read import _video
from dejavlad.photo import Photo
from dejavlad.photo.video import video_photos

FRAMES = 40


def made(path: Path, first: int = 0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (48, 32))
    for frame in range(FRAMES):
        writer.write(np.full((32, 48, 3), first + 5 * frame, np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("a video") / "straße 1.avi")


def shade(photo: Photo) -> int:
    return round(float(read_image(photo).mean()))


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [7, 3, 39, 0, 20, 20], [39]])
def test_frames_in_any_order(video: Path, order: list[int]) -> None:
    for frame in order:
        photo = Photo("v", video, frame=frame)
        assert abs(shade(photo) - 5 * frame) <= 1
        assert read_size(photo) == (32, 48)


def test_a_crop_of_a_frame(video: Path) -> None:
    photo = Photo("v", video, frame=2, crop=(1, 2, 11, 8))
    assert read_image(photo).shape == (6, 10, 3)
    assert read_size(photo) == (6, 10)


@pytest.mark.parametrize("frame", [FRAMES, 1000, -1])
def test_frames_that_are_not_there(video: Path, frame: int) -> None:
    with pytest.raises(PhotoError, match=f"frame {frame}"):
        read_image(Photo("v", video, frame=frame))
    assert abs(shade(Photo("v", video, frame=1)) - 5) <= 1


def test_colours_are_rgb(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (48, 32))
    writer.write(np.full((32, 48, 3), (250, 5, 5), np.uint8))
    writer.release()
    mean = read_image(Photo("v", tmp_path / "a.avi", frame=0)).mean(axis=(0, 1))
    assert mean[2] > 200
    assert mean[0] < 50


def test_a_video_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = made(tmp_path / "a.avi")
    photo = Photo("v", path, frame=3)
    assert abs(shade(photo) - 15) <= 1
    _video.close()  # an open file cannot be written on every system
    made(path, first=40)
    os.utime(path, ns=(1, 1))
    assert abs(shade(photo) - 55) <= 1


@pytest.mark.parametrize("workers", [1, 3])
def test_frames_do_not_depend_on_workers(video: Path, workers: int) -> None:
    photos = [Photo("v", video, frame=frame) for frame in range(1, FRAMES, 3)]
    plan = plan_batches([read_size(photo) for photo in photos], 4)
    alone = list(load_batches(photos, plan, Preprocess()))
    for expected, other in zip(alone, load_batches(photos, plan, Preprocess(), workers=workers), strict=True):
        assert np.array_equal(expected.images, other.images)


def cut_short(folder: Path) -> Path:
    """A video whose header tells of more frames than are there."""
    whole = made(folder / "whole.avi").read_bytes()
    (folder / "cut.avi").write_bytes(whole[: len(whole) * 6 // 10])
    return folder / "cut.avi"


class Grabs:
    """Counts how often videos are opened, and frames taken from them."""

    def __init__(self, capture: Any) -> None:
        self.capture = capture

    def grab(self) -> Any:
        Grabs.taken += 1
        return self.capture.grab()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.capture, name)

    taken = opened = 0


@pytest.fixture
def grabs(monkeypatch: pytest.MonkeyPatch) -> type[Grabs]:
    def opening(path: Path) -> Grabs:
        Grabs.opened += 1
        return Grabs(open_video(path))

    monkeypatch.setattr(video_frames, "open_video", opening)
    _video.close()
    Grabs.taken = Grabs.opened = 0
    return Grabs


@pytest.mark.parametrize("workers", [0, 2])
def test_a_video_cut_short_is_read_once(tmp_path: Path, grabs: type[Grabs], workers: int) -> None:
    photos = list(video_photos(cut_short(tmp_path)))
    assert len(photos) == FRAMES
    plan = plan_batches([(32, 48)] * FRAMES, 4)
    failed: dict[int, PhotoError] = {}
    sizes: list[tuple[int, int] | None] = [(32, 48)] * FRAMES
    loaded = load_batches(photos, plan, Preprocess(), workers=workers, sizes=sizes, keep_blank=True)
    for batch in loaded:
        failed |= batch.failed
    readable = FRAMES - len(failed)
    assert 10 < readable < 30 and sorted(failed) == list(range(readable, FRAMES))
    assert f"ends after {readable} frames" in str(failed[FRAMES - 1])
    assert (grabs.taken, grabs.opened) == (readable + 1, 1)
    assert abs(shade(photos[1]) - 5) <= 1  # and what is there is read as before
    for _ in range(3):
        with pytest.raises(PhotoError, match="ends after"):
            read_image(photos[-1])
    assert grabs.taken <= 2 * (readable + 1)


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_threads_share_one_pass(video: Path, grabs: type[Grabs], workers: int) -> None:
    photos = [Photo("v", video, frame=frame) for frame in range(0, FRAMES, 3)]
    plan = plan_batches([(32, 48)] * len(photos), 2)
    shades = [
        round(float(image.mean() * 255 / 5))
        for batch in load_batches(photos, plan, Preprocess(), workers=workers, keep_blank=True)
        for image in batch.images
    ]
    assert shades == [photo.frame for photo in photos]
    assert (grabs.taken, grabs.opened) == (FRAMES, 1)


def test_a_frame_asked_for_again_is_not_decoded_again(video: Path, grabs: type[Grabs]) -> None:
    photo = Photo("v", video, frame=30)
    first = read_image(photo)
    first[:] = 0  # a caller's own
    assert abs(shade(photo) - 150) <= 1
    assert grabs.taken == 31
