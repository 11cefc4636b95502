"""A pinhole camera's view of faces: colour, what shines, depth, and how each pixel faces the sun.

Solid faces are drawn from near to far into a depth buffer, then what is partly transparent from far to near.
A face's homography gives both its texture's place in the photo and, in its last row, the inverse of depth.

Legend: H, W pixels of the photo; M faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dejavlad.town.paint import Bytes, Floats, pixels
from dejavlad.town.plan import Face, Stand, Vector
from dejavlad.town.textures import pyramid

NEAR, FAR = 0.15, 130.0
"""Metres; nothing nearer or farther is drawn."""
ACROSS = 80.0
"""Degrees that a photo shows from left to right."""


@dataclass(frozen=True)
class Camera:
    """Where a camera is and how it looks."""

    place: Vector
    """float [3], where the camera stands, in metres: east, north, up."""
    axes: Vector
    """[3, 3]: rows point to the photo's right, down, and ahead."""
    focal: float
    """The focal length in pixels."""
    size: tuple[int, int]
    """The size of the picture, (height, width) in pixels."""

    @classmethod
    def looking(
        cls, place: Vector, heading: float, *, pitch: float = 0.0, roll: float = 0.0, size: tuple[int, int]
    ) -> Camera:
        """A camera at a place that sees `ACROSS` degrees; angles in degrees: heading from north, pitch up."""
        h, p, r = np.radians([heading, pitch, roll])
        level = np.array([np.sin(h), np.cos(h), 0.0])
        up = np.array([0.0, 0.0, 1.0])
        right = np.array([np.cos(h), -np.sin(h), 0.0])
        ahead = level * np.cos(p) + up * np.sin(p)
        down = level * np.sin(p) - up * np.cos(p)
        right, down = right * np.cos(r) + down * np.sin(r), down * np.cos(r) - right * np.sin(r)
        focal = size[1] / 2 / np.tan(np.radians(ACROSS) / 2)
        return cls(place, np.stack([right, down, ahead]), float(focal), size)

    def rays(self) -> Floats:
        """Float32 [H, W, 3]: from the camera through each pixel, as long as to reach depth 1."""
        h, w = self.size
        x = ((np.arange(w) + 0.5 - w / 2) / self.focal).astype(np.float32)
        y = ((np.arange(h) + 0.5 - h / 2) / self.focal).astype(np.float32)
        right, down, ahead = self.axes.astype(np.float32)
        return np.asarray(x[None, :, None] * right + (y[:, None] * down + ahead)[:, None, :], np.float32)


@dataclass
class Buffers:
    """What a camera sees: colour and nearness of each pixel."""

    colour: Bytes
    """[H, W, 4]: RGB as under white light, and what shines."""
    nearness: Floats
    """[H, W]: 1 / depth in metres; 0 where nothing is."""
    facing: Floats
    """[H, W]: the cosine to the sun."""


class Faces:
    """Faces as arrays, for quick choosing."""

    def __init__(self, faces: Sequence[Face]) -> None:
        self.faces = tuple(faces)
        self.corner = np.array([f.corner for f in faces]).reshape(-1, 3)
        self.right = np.array([f.right for f in faces]).reshape(-1, 3)
        self.down = np.array([f.down for f in faces]).reshape(-1, 3)
        normal = np.cross(self.down, self.right)
        self.normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        self.two_sided = np.array([f.two_sided for f in faces], bool)

    def seen(self, camera: Camera) -> list[Shape]:
        """Those in front of the camera that face it, in its own coordinates."""
        if not self.faces:
            return []
        away = self.corner - camera.place
        turned = (away * self.normal).sum(axis=1)
        sides = np.linalg.norm(self.right, axis=1) + np.linalg.norm(self.down, axis=1)
        reach = np.minimum(FAR, 25 * sides)  # what is small is left out sooner
        near = np.linalg.norm(away + (self.right + self.down) / 2, axis=1) < reach
        rows = np.flatnonzero(near & ((turned < 0) | self.two_sided))
        o, u, v = (a @ camera.axes.T for a in (away[rows], self.right[rows], self.down[rows]))
        points = np.stack([o, o + u, o + u + v, o + v], axis=1)
        h, w = camera.size
        tx, ty = w / 2 / camera.focal, h / 2 / camera.focal
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        out = np.zeros(len(rows), bool)
        for beyond in (z < NEAR, x > tx * z, x < -tx * z, y > ty * z, y < -ty * z):
            out |= beyond.all(axis=1)
        frames = np.stack([u, v, o], axis=2)
        normals = self.normal[rows] * np.where(turned[rows] > 0, -1, 1)[:, None]
        return [Shape(self.faces[rows[i]], points[i], frames[i], normals[i]) for i in np.flatnonzero(~out)]


@dataclass
class Shape:
    """A face in a camera's coordinates."""

    face: Face
    points: Vector
    """float [4, 3], its corners in the camera's coordinates, metres."""
    frame: Vector
    """[3, 3] columns: right, down, corner."""
    normal: Vector
    """[3] outwards, in the district's coordinates."""


def shapes_of(stands: Sequence[Stand], camera: Camera) -> list[Shape]:
    """What stands upright, turned to the camera."""
    right = np.array([camera.axes[2, 1], -camera.axes[2, 0], 0.0])
    right /= np.linalg.norm(right)
    fall = np.array([0.0, 0.0, -1.0])
    faces = []
    for stand in stands:
        away = stand.foot - camera.place
        depth = float(away @ camera.axes[2])
        if 0.8 < depth < 90 and abs(away @ right) < depth * 1.1 + stand.width:
            start = stand.foot - right * stand.width / 2 + np.array([0, 0, stand.height])
            faces.append(
                Face(
                    start,
                    right * stand.width,
                    fall * stand.height,
                    stand.texture,
                    solid=False,
                    two_sided=True,
                    glow=stand.glow,
                )
            )
    return Faces(faces).seen(camera)


def draw(camera: Camera, shapes: Sequence[Shape], seed: int, sun: Vector) -> Buffers:
    """Draw shapes in any order; `sun` is the direction to the sun."""
    h, w = camera.size
    buffers = Buffers(
        np.zeros((h, w, 4), np.uint8), np.zeros((h, w), np.float32), np.zeros((h, w), np.float32)
    )
    depths = [max(NEAR, float(s.points[:, 2].min())) for s in shapes]
    solid = [i for i, s in enumerate(shapes) if s.face.solid]
    for i in sorted(solid, key=lambda i: depths[i]):
        _draw(camera, shapes[i], buffers, seed, max(0.0, float(shapes[i].normal @ sun)))
    middles = [float(s.points[:, 2].mean()) for s in shapes]
    for i in sorted((i for i, s in enumerate(shapes) if not s.face.solid), key=lambda i: -middles[i]):
        _draw(camera, shapes[i], buffers, seed, 0.45)
    return buffers


def _outline(shape: Shape) -> Vector:
    """[n, 3] the corners of what lies in front of the camera."""
    points = shape.points
    if shape.face.triangle:
        points = np.stack([(points[0] + points[1]) / 2, points[2], points[3]])
    if (points[:, 2] >= NEAR).all():
        return points
    kept = []
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        if a[2] >= NEAR:
            kept.append(a)
        if (a[2] >= NEAR) != (b[2] >= NEAR):
            kept.append(a + (b - a) * (NEAR - a[2]) / (b[2] - a[2]))
    return np.array(kept).reshape(-1, 3)


def _level(levels: Sequence[Bytes], flat: NDArray[np.float64]) -> Bytes:
    """Of a texture's pyramid, the level with about as many pixels as its outline [n, 2] has in the photo."""
    rolled = np.concatenate((flat[1:], flat[:1]))
    area = abs((flat[:, 0] * rolled[:, 1] - rolled[:, 0] * flat[:, 1]).sum()) / 2
    ratio = levels[0].shape[0] * levels[0].shape[1] / max(area, 0.5)
    return levels[int(min(max(np.log2(ratio) / 2 + 0.2, 0), len(levels) - 1))]


def _draw(camera: Camera, shape: Shape, buffers: Buffers, seed: int, facing: float) -> None:
    h, w = camera.size
    points = _outline(shape)
    if len(points) < 3:
        return
    flat = points[:, :2] / points[:, 2:] * camera.focal + (w / 2, h / 2)
    x0, y0 = np.maximum(np.floor(flat.min(axis=0)), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(flat.max(axis=0)), (w, h)).astype(int)
    if x0 >= x1 or y0 >= y1:
        return
    nearest = buffers.nearness[y0:y1, x0:x1]
    if 1 / points[:, 2].min() < nearest.min():
        return
    lens = np.array([[camera.focal, 0, w / 2], [0, camera.focal, h / 2], [0, 0, 1]])
    matrix = lens @ shape.frame
    if abs(np.linalg.det(matrix)) < 1e-6:
        return
    inverse = np.linalg.inv(matrix)  # pixel -> (u, v, 1) / depth
    row = inverse[2] + (0, 0, inverse[2, :2] @ (x0 + 0.5, y0 + 0.5))
    across = (row[0] * np.arange(x1 - x0)).astype(np.float32)
    downwards = (row[1] * np.arange(y1 - y0) + row[2]).astype(np.float32)
    nearness = across[None] + downwards[:, None]
    inside = np.zeros(nearest.shape, np.uint8)
    corners = np.clip((flat - (x0 + 0.5, y0 + 0.5)) * 16, -32000 * 16, 32000 * 16)
    cv2.fillConvexPoly(inside, np.round(corners).astype(np.int32), 1, cv2.LINE_8, 4)
    wins = (inside > 0) & (nearness > nearest)
    if not wins.any():
        return
    texture = _level(pyramid(seed, shape.face.texture), flat)
    th, tw = texture.shape[:2]
    to = np.array([[tw, 0, -0.5], [0, th, -0.5], [0, 0, 1]]) @ inverse
    to = to @ np.array([[1, 0, x0 + 0.5], [0, 1, y0 + 0.5], [0, 0, 1]])
    patch: Bytes = np.asarray(
        cv2.warpPerspective(
            texture,
            to,
            (int(x1 - x0), int(y1 - y0)),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE if shape.face.solid else cv2.BORDER_CONSTANT,
        ),
        np.uint8,
    )
    colour, turned = buffers.colour[y0:y1, x0:x1], buffers.facing[y0:y1, x0:x1]
    if shape.face.solid:
        np.copyto(pixels(colour), pixels(patch), where=wins)
        np.copyto(nearest, nearness, where=wins)
        np.copyto(turned, facing, where=wins)
        return
    wins &= patch[..., 3] > 0
    opacity = patch[wins][:, 3:].astype(np.uint16)
    mixed = colour[wins].astype(np.uint16) * (255 - opacity) // 255
    mixed[:, :3] += patch[wins][:, :3]
    if shape.face.glow:  # only what is bright shines
        mixed[:, 3] += (patch[wins][:, :3].min(axis=1) > 150) * np.uint16(255 * shape.face.glow)
    colour[wins] = np.minimum(mixed, 255).astype(np.uint8)
    wins &= patch[..., 3] > 127
    np.copyto(nearest, nearness, where=wins)
    np.copyto(turned, facing, where=wins)
