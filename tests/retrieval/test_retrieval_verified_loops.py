"""Loops checked by geometry: right ones stay, wrong ones go, and near is as neighbours are."""

from pathlib import Path

import numpy as np

from dejavlad.photo import Photo, PhotoList
from dejavlad.places.loops import Loop
from dejavlad.places.verification.loops import verify_loops
from dejavlad.places.verification.points import PointSetting

SETTING = PointSetting("sift", longest=256)


def frames_of(views):
    return PhotoList(Photo(f"{i}", Path(f"{i}"), pixels=view) for i, view in enumerate(views))


def test_right_loops_stay_and_wrong_ones_go(make_view):
    frames = frames_of(
        [make_view(place, 6 * (at > 3), 192, 256) for at, place in enumerate((0, 1, 2, 3, 0, 1))]
    )
    right, wrong = verify_loops([Loop(4, 0, 0.1, 0.1), Loop(5, 2, 0.9, 0.9)], frames, SETTING, window=3)
    assert right.known and (right.frame, right.closes, right.score) == (4, 0, 0.1)
    assert not wrong.known


def test_what_is_farther_than_neighbours_are_is_no_loop(make_view):
    wide = make_view(0, 0, 192, 512)
    aside = [wide[:, left : left + 256] for left in (0, 4, 8, 60, 64, 68)]
    (loop,) = verify_loops([Loop(3, 0, 0.5, 0.9)], frames_of(aside), SETTING, window=1)
    alone = [np.ascontiguousarray(aside[0]), make_view(7, 0, 192, 256), aside[3]]
    (nearest,) = verify_loops([Loop(2, 0, 0.5, 0.9)], frames_of(alone), SETTING, window=1)
    assert nearest.confidence > loop.confidence


def test_a_frame_that_cannot_be_read_closes_nothing(make_view, tmp_path):
    photos = [
        Photo("a", tmp_path / "gone.png"),
        Photo("b", Path("b"), pixels=make_view(0)),
        Photo("c", Path("c"), pixels=make_view(0)),
    ]
    (loop,) = verify_loops([Loop(2, 0, 0.5, 0.9)], PhotoList(photos), SETTING, window=1)
    assert loop.confidence == 0 or not loop.known
