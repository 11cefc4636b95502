"""How a drive looks: sun, sky, haze, rain, night and the camera's own faults, put onto what was drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from dejavlad.town.ground import Maps, ground
from dejavlad.town.paint import Bytes, Floats, Rng, noise, rng_of
from dejavlad.town.plan import District, Vector
from dejavlad.town.render import Buffers, Camera

Light = tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """A drive's light and weather; light as linear RGB."""

    sun: Light
    sky: Light
    """What falls from all of the sky."""
    azimuth: float
    elevation: float
    zenith: Light
    horizon: Light
    clouds: float = 0.45
    haze: float = 0.004
    """A metre's share of light that haze takes."""
    night: float = 0.0
    """How much windows and lamps shine."""
    wet: float = 0.0
    rain: bool = False
    gamma: float = 2.2
    saturation: float = 1.0
    grain: float = 2.0
    blur: float = 0.0
    quality: int = 88

    def to_sun(self) -> Vector:
        """[3] the direction to the sun."""
        a, e = np.radians([self.azimuth, self.elevation])
        return np.array([np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), np.sin(e)])

    def varied(self, rng: Rng) -> Look:
        """The same weather on another day."""
        sun = rng.uniform(0.85, 1.15)
        tint = 1 + rng.normal(0, 0.04, 3)

        def lit(light: Light, by: float) -> Light:
            r, g, b = (np.asarray(light) * by * tint).tolist()
            return r, g, b

        return replace(
            self,
            sun=lit(self.sun, sun),
            sky=lit(self.sky, float(rng.uniform(0.9, 1.1))),
            azimuth=self.azimuth + float(rng.uniform(-12, 12)),
            clouds=float(np.clip(self.clouds + rng.normal(0, 0.1), 0, 1)),
            saturation=self.saturation * float(rng.uniform(0.9, 1.1)),
        )


LOOKS: dict[str, Look] = {
    "noon": Look((1.5, 1.42, 1.28), (0.42, 0.48, 0.58), 195, 52, (0.16, 0.34, 0.72), (0.62, 0.74, 0.88)),
    "overcast": Look(
        (0.08, 0.08, 0.08), (0.8, 0.83, 0.88), 150, 45, (0.6, 0.64, 0.7), (0.78, 0.8, 0.84), 1.0, 0.005,
        saturation=0.8,
    ),
    "morning": Look(
        (1.5, 1.25, 0.9), (0.34, 0.4, 0.52), 112, 27, (0.25, 0.42, 0.74), (0.86, 0.8, 0.72), 0.3, 0.007,
        gamma=2.0,
    ),
    "evening": Look(
        (1.5, 0.92, 0.45), (0.24, 0.26, 0.38), 262, 15, (0.2, 0.28, 0.52), (1.0, 0.62, 0.36), 0.6, 0.004,
        night=0.25, grain=3.0, quality=84,
    ),
    "rain": Look(
        (0.0, 0.0, 0.0), (0.42, 0.46, 0.52), 150, 45, (0.34, 0.37, 0.42), (0.46, 0.49, 0.53), 1.0, 0.014,
        night=0.35, wet=0.35, rain=True, saturation=0.6, grain=3.5, blur=0.5, quality=80,
    ),
    "fog": Look(
        (0.05, 0.05, 0.05), (0.7, 0.72, 0.75), 150, 45, (0.68, 0.7, 0.73), (0.7, 0.72, 0.75), 1.0, 0.03,
        saturation=0.7,
    ),
    "night": Look(
        (0.03, 0.035, 0.05), (0.035, 0.04, 0.065), 40, 55, (0.008, 0.01, 0.022), (0.06, 0.05, 0.05), 0.5,
        night=1.0, wet=0.1, grain=6.0, blur=0.4, quality=78,
    ),
}  # fmt: skip
"""Light and weather by name."""

_LINEAR = (np.arange(256, dtype=np.float64) / 255) ** 2.2
_LAMP = np.array([1.0, 0.74, 0.42], np.float32)


def looked(
    look: Look, district: District, above: Maps, drive: str, camera: Camera, seen: Buffers, key: str
) -> Bytes:
    """What was drawn as the drive's camera took it: uint8 RGB [H, W, 3]."""
    rng = rng_of(district.seed, "look", district.name, drive, key)
    rays = camera.rays()
    with np.errstate(divide="ignore", invalid="ignore"):
        nearness = seen.nearness.copy()
        open_ground = (nearness == 0) & (rays[..., 2] < -0.004)
        depth = np.where(open_ground, camera.place[2] / -rays[..., 2], 1 / np.maximum(nearness, 1e-4))
    depth = depth.astype(np.float32)
    albedo = _LINEAR.astype(np.float32)[seen.colour[..., :3]]
    facing = seen.facing
    place = camera.place.astype(np.float32) + rays * depth[..., None]
    albedo[open_ground] = ground(district, place[open_ground], depth[open_ground])
    if look.wet:
        albedo[open_ground] *= 1 - look.wet
    sun = look.to_sun()
    facing[open_ground] = sun[2]
    solid = open_ground | (nearness > 0)
    x0, y0 = (np.float32(v) for v in above.origin)
    step = (depth - 0.5)[..., None] * rays + camera.place.astype(np.float32)
    spot_x = (step[..., 0] - x0) * 2
    spot_y = (step[..., 1] - y0) * 2
    shade = cv2.remap(above.shade, spot_x, spot_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    high = np.maximum(place[..., 2], 0)
    sunlit = np.clip((high - shade) * 2.5 + 0.5, 0, 1) * facing
    open_sky = 0.62 + 0.38 * np.clip(high / 9, 0, 1)
    open_sky = np.where(open_ground, 0.85, open_sky)
    light = open_sky[..., None] * np.array(look.sky, np.float32) + sunlit[..., None] * np.array(
        look.sun, np.float32
    )
    if look.night:
        glow = cv2.remap(above.lamps, spot_x, spot_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        glow = glow * np.exp(-((high - 1.5) ** 2) / 18) * (0.55 * look.night)
        light += glow[..., None].astype(np.float32) * _LAMP
    image = albedo * light
    if look.night:
        shine = (seen.colour[..., 3].astype(np.float32) / 255) ** 1.5 * look.night
        image += shine[..., None] * _LAMP * np.float32(0.75) * (0.25 + albedo)
    through = np.exp(-look.haze * depth * np.linalg.norm(rays, axis=2))[..., None]
    image = image * through + np.array(look.horizon, np.float32) * (1 - through) * np.float32(0.9)
    sky = ~solid
    if sky.any():
        image[sky] = _sky(look, district, drive, rays[sky])
    if look.wet:
        _mirror(image, camera, open_ground, look.wet)
    return _finish(image, look, rng)


def _sky(look: Look, district: District, drive: str, rays: Floats) -> Floats:
    """Float32 [n, 3] along rays: a gradient, clouds, and roofs far away."""
    flat = np.hypot(rays[:, 0], rays[:, 1])
    up = np.clip(rays[:, 2] / np.maximum(flat, 1e-3), 0.0, None)
    mix = (1 - np.exp(-2.2 * up))[:, None]
    colour = np.array(look.horizon, np.float32) * (1 - mix) + np.array(look.zenith, np.float32) * mix
    rng = rng_of(district.seed, "clouds", district.name, drive)
    field = noise()
    shift = rng.integers(0, 256, 2)
    scale = 26 / (up + 0.12)
    ix = (rays[:, 0] / flat * scale + shift[0]).astype(int) & 255
    iy = (rays[:, 1] / flat * scale + shift[1]).astype(int) & 255
    cover = np.clip((field[iy, ix] - (0.78 - 0.5 * look.clouds)) * 3.5, 0, 1) * np.clip(up * 5, 0, 1)
    bright = np.array(look.sky, np.float32) * 1.1 + np.array(look.sun, np.float32) * 0.25
    colour = colour * (1 - 0.75 * cover[:, None]) + bright * (0.75 * cover[:, None])
    bearing = np.degrees(np.arctan2(rays[:, 0], rays[:, 1]))
    roofs = noise(256, 16)[hash_row(district), (bearing * 3).astype(int) & 255] * 0.07 + 0.015
    far = (up < roofs)[:, None]
    distant = np.array([0.55, 0.58, 0.62], np.float32)
    return np.asarray(np.where(far, colour * distant, colour), np.float32)


def hash_row(district: District) -> int:
    """The row of noise that a district's skyline follows."""
    return int(rng_of(district.seed, "skyline", district.name).integers(256))


def _mirror(image: Floats, camera: Camera, wet: NDArray[np.bool_], amount: float) -> None:
    """Lay the upper half, mirrored and smeared downwards, over what is wet."""
    h = camera.size[0]
    horizon = round(h / 2 + camera.focal * camera.axes[2, 2] / max(1e-3, -camera.axes[1, 2]))
    rows = np.clip(2 * horizon - np.arange(h), 0, h - 1)
    mirrored = cv2.blur(image, (3, 15))[rows]
    image[wet] += mirrored[wet] * np.float32(amount * 0.6)


def _finish(image: Floats, look: Look, rng: Rng) -> Bytes:
    h, w = image.shape[:2]
    if look.night > 0.5:  # lights bleed
        image = image + 0.25 * cv2.GaussianBlur(np.maximum(image - 0.5, 0), (0, 0), w / 80)
    image = image * 1.25 / (1 + 0.35 * image)
    table = (255 * (np.arange(4096) / 4095) ** (1 / look.gamma)).astype(np.float32)
    shown = table[(np.clip(image, 0, 1) * 4095).astype(np.int32)]
    if look.saturation != 1:
        grey = shown @ np.array([0.3, 0.59, 0.11], np.float32)
        shown = grey[..., None] + (shown - grey[..., None]) * np.float32(look.saturation)
    if look.rain:
        streaks = np.zeros((h, w), np.uint8)
        for _ in range(h * w // 400):
            x, y = int(rng.integers(0, w)), int(rng.integers(0, h))
            long = int(rng.integers(4, 14))
            cv2.line(streaks, (x, y), (x + long // 5, y + long), int(rng.integers(20, 70)), 1)
        shown = shown + cv2.blur(streaks, (2, 2)).astype(np.float32)[..., None]
    if look.blur:
        shown = np.asarray(cv2.GaussianBlur(shown, (0, 0), look.blur), np.float32)
    shown = shown + (rng.standard_normal((h, w, 1), np.float32) * np.float32(look.grain))
    return np.clip(shown, 0, 255).astype(np.uint8)
