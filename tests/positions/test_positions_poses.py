"""Poses in the exact forms of KITTI, TUM and COLMAP, and truths of loops."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from dejavlad.errors import InputError
from dejavlad.evaluation.loops import reachable
from dejavlad.geo import Position
from dejavlad.ground_truth.loop_truth import loop_truth
from dejavlad.photo import Photo, PhotoList
from dejavlad.positions.poses import (
    PosesGiven,
    centres_of,
    ground,
    is_poses,
    off_ground,
    read_poses,
    split_poses,
)

SHARED = Path(__file__).parents[3] / "shared" / "data"


def listed(*names: str, positions=None, times=None) -> PhotoList:
    return PhotoList(
        Photo(
            name,
            Path(name),
            position=None if positions is None else positions[i],
            time=None if times is None else times[i],
        )
        for i, name in enumerate(names)
    )


def kitti(path: Path, centres: np.ndarray) -> Path:
    rows = np.concatenate([np.broadcast_to(np.eye(3), (len(centres), 3, 3)), centres[:, :, None]], axis=2)
    path.write_text("".join(" ".join(f"{v:.6e}" for v in row.ravel()) + "\n" for row in rows))
    return path


def colmap(path: Path, names: list[str], centres: np.ndarray, points: int = 2) -> Path:
    """images.txt or images.bin of cameras that look anywhere."""
    turns = Rotation.random(len(names), random_state=0)
    moved = -turns.apply(centres)
    quaternions = turns.as_quat(scalar_first=True)
    if path.suffix == ".txt":
        lines = [
            "# Image list with two lines of data per image:",
            "#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME",
        ]
        for i, (name, q, t) in enumerate(zip(names, quaternions, moved, strict=True)):
            lines.append(" ".join(map(str, [i + 1, *q, *t, 1, name])))
            lines.append("1.5 2.5 -1 " * (i % 3))
        path.write_text("\n".join(lines) + "\n")
    else:
        content = struct.pack("<Q", len(names))
        for i, (name, q, t) in enumerate(zip(names, quaternions, moved, strict=True)):
            content += struct.pack("<I7dI", i + 1, *q, *t, 1) + name.encode() + b"\0"
            content += struct.pack("<Q", i % 3) + struct.pack("<ddq", 1, 2, -1) * (i % 3)
        path.write_bytes(content)
    return path


CENTRES = np.random.default_rng(0).normal(size=(7, 3)) * 20


def test_kitti(tmp_path: Path) -> None:
    path = kitti(tmp_path / "00.txt", CENTRES)
    poses = read_poses(path)
    assert is_poses(path) and poses.kind == "kitti" and poses.centres == pytest.approx(CENTRES, rel=1e-5)
    photos = listed(*(f"{i:06d}.png" for i in range(7)))
    assert np.stack(centres_of(photos, poses, path)) == pytest.approx(CENTRES, rel=1e-5)  # type: ignore[arg-type]
    sample = photos.take([1, 4])
    assert np.stack(centres_of(sample, poses, path)) == pytest.approx(CENTRES[[1, 4]], rel=1e-5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"7 poses.*2 photos"):
        centres_of(listed("1.png", "2.png"), poses, path)  # not named as KITTI's
    with pytest.raises(InputError, match=r"7 poses.*8 photos"):
        centres_of(listed(*"abcdefgh"), poses, path)
    assert ground(CENTRES[0], "xz") == (CENTRES[0, 0], CENTRES[0, 2])


def test_tum(tmp_path: Path) -> None:
    path = tmp_path / "groundtruth.txt"
    path.write_text(
        "# ground truth trajectory\n# timestamp tx ty tz qx qy qz qw\n"
        "1305031098.5 0 0 0 0 0 0 1\n1305031099.0 1 2 4 0 0 0 1\n1305031109.0 9 9 9 0 0 0 1\n"
    )
    poses = read_poses(path)
    assert poses.kind == "tum"
    photos = listed(
        "rgb/1305031098.750000.png", "rgb/1305031099.000000.png", "rgb/1305031101.0.png", "rgb/9.png"
    )
    centres = centres_of(photos, poses, path)
    assert centres[0] == pytest.approx([0.5, 1, 2]) and centres[1] == pytest.approx([1, 2, 4])
    assert centres[2] is None and centres[3] is None  # a gap of 10 s, and before the beginning
    assert centres_of(listed("a.jpg", times=[1305031098.5]), poses, path)[0] == pytest.approx([0, 0, 0])
    with pytest.raises(InputError, match=r"a\.jpg.* has none"):
        centres_of(listed("a.jpg"), poses, path)


@pytest.mark.parametrize("name", ["images.txt", "images.bin"])
def test_colmap(tmp_path: Path, name: str) -> None:
    names = [f"left/a photo {i}.jpg" for i in range(7)]
    path = colmap(tmp_path / name, names, CENTRES)
    poses = read_poses(path)
    assert is_poses(path) and poses.kind == "colmap" and poses.names == tuple(names)
    assert poses.centres == pytest.approx(CENTRES)
    centres = centres_of(listed(names[3], "left/other.jpg"), poses, path)
    assert centres[0] == pytest.approx(CENTRES[3]) and centres[1] is None
    bare = centres_of(listed("a photo 2.jpg"), poses, path)
    assert bare[0] == pytest.approx(CENTRES[2])


def test_axes() -> None:
    assert split_poses("C:\\run\\00.txt:xz") == PosesGiven(Path("C:\\run\\00.txt"), "xz")
    assert split_poses("C:\\run\\00.txt") == PosesGiven(Path("C:\\run\\00.txt"))
    with pytest.raises(InputError, match="two different"):
        split_poses("00.txt:xx")
    flat = np.array([[0, 0, 0], [10, 1, 30.0]])
    assert off_ground(flat, "xy") and not off_ground(flat, "xz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no poses"),
        ("# nothing\n", "holds no poses"),
        ("a,b,c\n1,2,3\n", "holds no poses"),
        ("1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 nan 0 1 0 0 0 0 1 0\n", "line 2: a pose is of finite numbers"),
        ("1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0\n", "line 2: 12 numbers"),
        ("2 0 0 0 0 0 0 1\n1 0 0 0 0 0 0 1\n", "line 2: time 1.000000 is not after"),
        ("1 1 0 0 0 0 0 0 1 a.jpg\n\n2 0 0 0 0 0 0 0 1 b.jpg\n", "line 3.* is no rotation"),
        ("1 1 0 0 0 0 0 0 1 a.jpg\n\n2 1 0\n", "line 3: a photo of COLMAP has 10 fields"),
        ("1 1 0 0 0 0 0 0 1 a.jpg\n\n2 1 0 0 0 0 0 0 1 a.jpg\n\n", "twice"),
    ],
)
def test_bad_poses(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "poses.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_poses(path)


def test_damaged_images_bin(tmp_path: Path) -> None:
    whole = colmap(tmp_path / "images.bin", ["a.jpg", "b.jpg", "c.jpg"], CENTRES[:3]).read_bytes()
    for cut in (0, 7, 20, 80, len(whole) - 1):
        (tmp_path / "cut.bin").write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"cut\.bin"):
            read_poses(tmp_path / "cut.bin")
    (tmp_path / "cut.bin").write_bytes(struct.pack("<Q", 2**60) + whole[8:])
    with pytest.raises(InputError, match="more than it has room for"):
        read_poses(tmp_path / "cut.bin")
    with pytest.raises(InputError, match="cannot be read"):
        read_poses(tmp_path / "none.bin")


def test_loops_of_a_matrix_in_every_form(tmp_path: Path) -> None:
    matrix = np.zeros((6, 6), np.uint8)
    matrix[4, 0] = matrix[5, 0] = matrix[5, 1] = 255
    Image.fromarray(matrix).save(tmp_path / "t.bmp")
    Image.fromarray(matrix).convert("RGB").save(tmp_path / "t.png")
    np.save(tmp_path / "t.npy", matrix > 0)
    savemat(tmp_path / "t.mat", {"truth": matrix.astype(float)})
    frames = listed(*"abcdef")
    for name in ("t.bmp", "t.png", "t.npy", "t.mat"):
        right, description = loop_truth(str(tmp_path / name), frames)
        assert [rows.tolist() for rows in right] == [[4, 5], [5], [], [], [0], [0, 1]]
        assert description == {"kind": "matrix"}


def test_loops_of_poses_and_positions(tmp_path: Path) -> None:
    centres = np.array([[0, 0, 0], [10, 0, 0], [0, 3, 4], [0, 0, 5.001]])
    path = kitti(tmp_path / "00.txt", centres)
    right, description = loop_truth(str(path), listed(*"abcd"))
    assert [rows.tolist() for rows in right] == [[2], [], [0, 3], [2]]
    assert description["radius_m"] == 5.0
    wide, _ = loop_truth(str(path), listed(*"abcd"), radius=20)
    assert wide.counts.tolist() == [3, 3, 3, 3]
    where = [Position(0, 0), Position(0, 30), None, Position(3, 4)]
    right, description = loop_truth("positions:5", listed(*"abcd", positions=where))
    assert [rows.tolist() for rows in right] == [[3], [], [], [0]]
    assert description["frames_without_position"] == 1


def test_bad_truths_of_loops(tmp_path: Path) -> None:
    frames = listed(*"abc")
    for name, array, message in (
        ("wide.npy", np.ones((3, 4)), "3 x 4"),
        ("more.npy", np.ones((4, 4)), "4 frames, the sequence has 3"),
        ("empty.npy", np.eye(3), "holds no loop"),
        ("nan.npy", np.full((3, 3), np.nan), "NaN"),
        ("flat.npy", np.ones(9), "are needed"),
        ("texts.npy", np.full((3, 3), "x"), "not numbers"),
    ):
        np.save(tmp_path / name, array)
        with pytest.raises(InputError, match=message):
            loop_truth(str(tmp_path / name), frames)
    (tmp_path / "broken.bmp").write_bytes(b"BM")
    for given, message in (
        (str(tmp_path / "broken.bmp"), "broken.bmp"),
        (str(tmp_path / "none.bmp"), "there is no"),
        ("frames:2", "valid are"),
        ("positions:near", "not a distance"),
        ("positions:0", "more than 0"),
        ("positions:5", "has a position"),
    ):
        with pytest.raises(InputError, match=message):
            loop_truth(given, frames)
    np.save(tmp_path / "good.npy", np.ones((3, 3)))
    with pytest.raises(InputError, match="--radius is for"):
        loop_truth(str(tmp_path / "good.npy"), frames, radius=3)
    apart = kitti(tmp_path / "apart.txt", np.eye(3) * 100)
    with pytest.raises(InputError, match="no two frames"):
        loop_truth(str(apart), frames)


@pytest.mark.slow
def test_revisits_of_kitti_00() -> None:
    path = SHARED / "truth" / "kitti_00_poses.txt"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    frames = listed(*(f"{i:06d}.png" for i in range(4541)))
    right, _ = loop_truth(str(path), frames)
    revisits = reachable(right, 250)
    at = np.loadtxt(path)[:, [3, 7, 11]]
    slowly = [bool((np.linalg.norm(at[: i - 250] - at[i], axis=1) <= 5).any()) for i in range(251, len(at))]
    assert revisits[251:].tolist() == slowly and not revisits[:251].any()
    assert revisits.sum() == 804
    assert np.flatnonzero(revisits).min() > 1500  # the first street is driven again after 1,570 frames
