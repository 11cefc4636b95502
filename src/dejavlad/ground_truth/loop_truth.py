"""Which frames of a sequence show one place: from a square matrix, from poses, or from positions.

A matrix has a row and a column a frame: a bitmap (white at (i, j): frames i and j, counted from 0, show one
place), a ``.npy`` array, or the one matrix of a ``.mat`` file (as FAB-MAP's and many SLAM data sets have
them). One triangle is enough.

Legend: N frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.decoders import open_image
from dejavlad.errors import CheckpointError, InputError
from dejavlad.ground_truth.row_sets import RowSets, starts_of
from dejavlad.ground_truth.rules import WithinMetres
from dejavlad.ground_truth.truth import metres_in, truth_positions
from dejavlad.guarded.npy_file import read_npy
from dejavlad.matlab.mat_file import read_mat
from dejavlad.photo import PhotoList
from dejavlad.positions.poses import TEXTS, PosesGiven, centres_of, read_poses, split_poses

RADIUS: Final = 5.0
"""Metres within which two frames show one place, where poses tell and nothing else is said."""
BITMAPS: Final = (".bmp", ".gif", ".pbm", ".pgm", ".png", ".tif", ".tiff")
FORMS: Final = (
    "a square bitmap or matrix (.bmp, .png, .pgm, .npy, .mat), poses (.txt of KITTI or TUM, images.bin of "
    "COLMAP; right within --radius), or positions:METRES"
)


def loop_truth(given: str, frames: PhotoList, radius: float | None = None) -> tuple[RowSets, dict[str, Any]]:
    """For each frame the frames of its place, earlier and later ones, and how that was found.

    Args:
        given: see `FORMS`.
        radius: metres (inclusive); 5 unless told.

    Raises:
        InputError: another form, a file that cannot be used or is of another number of frames, a matrix that
            is not square, poses or positions that are not known, or no two frames that show one place.
    """
    kind, _, rest = given.partition(":")
    poses = split_poses(given)
    path, suffix = poses.path, poses.path.suffix.lower()
    if kind == "positions":
        right, description = _of_positions(frames, metres_in(rest, given) if rest else radius)
    elif suffix in (*BITMAPS, ".npy", ".mat"):
        if radius is not None:
            raise InputError(
                f"--radius is for poses and positions; {str(path)!r} says which frames are right"
            )
        right, description = loops_of_matrix(_matrix(path, suffix), len(frames), path), {"kind": "matrix"}
    elif suffix in (*TEXTS, ".bin"):
        right, description = _of_poses(poses, frames, radius)
    else:
        raise InputError(f"truth of loops {given!r}: valid are {FORMS}")
    if not len(right.rows):
        raise InputError(f"by the truth {given!r} no two frames show one place")
    return right, description


def loops_of_matrix(matrix_NN: NDArray[np.bool_], n_frames: int, path: Path) -> RowSets:
    """Both triangles together, without the diagonal.

    Raises:
        InputError: not square, of another number of frames, or empty.
    """
    rows, columns = matrix_NN.shape
    if rows != columns:
        raise InputError(
            f"{str(path)!r} is {rows} x {columns}; a truth of loops is square, a row and a column a frame"
        )
    if rows != n_frames:
        raise InputError(f"{str(path)!r} is of {rows} frames, the sequence has {n_frames}")
    both = matrix_NN | matrix_NN.T
    np.fill_diagonal(both, False)
    if not both.any():
        raise InputError(f"{str(path)!r} holds no loop: no two frames show one place")
    return RowSets(starts_of(both.sum(axis=1)), np.nonzero(both)[1].astype(np.int64), n_frames)


def _matrix(path: Path, suffix: str) -> NDArray[np.bool_]:
    if not path.is_file():
        raise InputError(f"there is no {str(path)!r}")
    if suffix in BITMAPS:
        with open_image(path) as image:
            return np.asarray(image.convert("L")) > 127
    try:
        if suffix == ".mat":
            matrices = [
                v for v in read_mat(path).values() if isinstance(v, np.ndarray) and v.ndim == 2 and v.size > 1
            ]
            if len(matrices) != 1:
                raise InputError(f"it holds {len(matrices)} matrices, and one is needed")
            matrix = matrices[0]
        else:
            matrix = read_npy(path)
        if matrix.ndim != 2 or matrix.dtype.kind not in "biuf":
            raise InputError(f"it is {matrix.dtype} {list(matrix.shape)}, and numbers [N, N] are needed")
    except (CheckpointError, OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} is no truth of loops: {error}") from error
    if not np.isfinite(matrix).all():
        raise InputError(f"{str(path)!r} holds NaN or infinity; right is what is not 0")
    return np.asarray(matrix != 0)


def _of_poses(given: PosesGiven, frames: PhotoList, radius: float | None) -> tuple[RowSets, dict[str, Any]]:
    """Frames taken within the radius of each other, in space."""
    metres = _radius(RADIUS if radius is None else radius)
    path = given.path
    centres = centres_of(frames, read_poses(path), path, rate=given.rate)
    known = [i for i, centre in enumerate(centres) if centre is not None]
    if not known:
        raise InputError(f"{str(path)!r} has a pose of none of the {len(frames)} frames")
    return near_in_space(np.stack([c for c in centres if c is not None]), known, len(frames), metres), {
        "kind": "poses",
        "radius_m": metres,
        "frames_without_position": len(frames) - len(known),
    }


def pose_centres(given: str | None, frames: PhotoList) -> NDArray[np.float64]:
    """float64 [N, 3] camera centres of all frames.

    Raises:
        InputError: the truth is no file of poses, or has none for some frames.
    """
    poses = PosesGiven(Path()) if given is None else split_poses(given)
    path = poses.path
    if path.suffix.lower() not in (*TEXTS, ".bin"):
        raise InputError(f"poses are needed as truth (.txt of KITTI or TUM, images.bin); given {given!r}")
    centres = centres_of(frames, read_poses(path), path, rate=poses.rate)
    lacking = [frame.name for frame, centre in zip(frames, centres, strict=True) if centre is None]
    if lacking:
        raise InputError(
            f"{str(path)!r} has no pose of {len(lacking)} of {len(centres)} frames, e.g. {lacking[0]!r}"
        )
    return np.stack([centre for centre in centres if centre is not None])


def near_in_space(centres_n3: NDArray[np.float64], rows: list[int], n_frames: int, radius: float) -> RowSets:
    """For each of N frames those at most `radius` away.

    Args:
        centres_n3: camera centres of the frames that are known.
        rows: which frames these are.
    """
    from scipy.spatial import cKDTree

    number = np.asarray(rows)
    neighbours: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * n_frames
    near = cKDTree(centres_n3).query_ball_point(centres_n3, radius)
    for row, hits in zip(rows, near, strict=True):
        others = number[np.asarray(hits, np.int64)]
        neighbours[row] = others[others != row]
    return RowSets.of(neighbours, n_frames)


def _of_positions(frames: PhotoList, radius: float | None) -> tuple[RowSets, dict[str, Any]]:
    truth = truth_positions(frames, frames, _radius(RADIUS if radius is None else radius))
    own = RowSets.of([[i] for i in range(len(frames))], len(frames))
    assert isinstance(truth.rule, WithinMetres)  # as `truth_positions` makes it
    return truth.positives.minus(own), {
        "kind": "positions",
        "radius_m": truth.rule.radius_m,
        "frames_without_position": truth.rule.queries_without_position,
    }


def _radius(metres: float) -> float:
    if not (np.isfinite(metres) and metres > 0):
        raise InputError(f"a radius is more than 0 metres; given {metres}")
    return float(metres)
