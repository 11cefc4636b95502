"""Thumbnails show what the model saw, quickly: turned as it read them, videos in one pass, JPEG reduced."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from dejavlad.images import read, video_frames
from dejavlad.photo import Photo
from dejavlad.report.thumbnails import Thumbnails


def shown(thumbnails: Thumbnails) -> list[Image.Image]:
    pictures = re.findall(r"base64,([A-Za-z0-9+/=]+)\)", thumbnails.css())
    return [Image.open(BytesIO(base64.b64decode(text))) for text in pictures]


@pytest.mark.parametrize("rotate", [True, False])
def test_turned_as_the_model_reads_it(tmp_path: Path, rotate: bool) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    pixels = np.zeros((600, 900, 3), np.uint8)
    pixels[:, :300] = 255, 0, 0
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    thumbnails = Thumbnails(90, rotate=rotate)
    assert thumbnails.admit([Photo("a.jpg", tmp_path / "a.jpg")])
    (image,) = shown(thumbnails)
    assert image.size == ((60, 90) if rotate else (90, 60))
    left = np.asarray(image)[30, 5]
    assert (left[0] > 200) == (not rotate)
    assert f"aspect-ratio:{2 / 3 if rotate else 1.5:.3f}" in thumbnails.css()


def test_frames_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (48, 32))
    for frame in range(40):
        writer.write(np.full((32, 48, 3), 5 * frame, np.uint8))
    writer.release()
    opened: list[Path] = []
    inner = video_frames.open_video
    monkeypatch.setattr(video_frames, "open_video", lambda path: (opened.append(path), inner(path))[1])
    read._video.close()
    thumbnails = Thumbnails(48)
    frames = [Photo("a.avi", path, frame=frame) for frame in (39, 3, 20, 0, 11)]
    assert thumbnails.admit(frames)
    assert opened == [path]
    assert [round(float(np.asarray(image).mean()) / 5) for image in shown(thumbnails)] == [39, 3, 20, 0, 11]
    read._video.close()
