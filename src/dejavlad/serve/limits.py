"""What a service allows of each thing that a client decides about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MB: Final = 1 << 20
MATCHES: Final = 100
"""Places in an answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of requests; what goes beyond is refused with the status that is told."""

    body: int = 96 * MB
    """Bytes of a body (413)."""
    photo: int = 48 * MB
    """Bytes of a photo (413)."""
    photos: int = 32
    """Photos of a request (413)."""
    pixels: int = 64_000_000
    """Pixels of a photo (413); the settings' ``max_pixels`` where that is less."""
    prepared: int = 4_000_000
    """Pixels of a photo as the model looks at it (413)."""
    parts: int = 64
    """Parts of a multipart body (413)."""
    name: int = 255
    """Bytes of a photo's name (400)."""
    target: int = 4096
    """Bytes of a path with its query (414)."""
    headers: int = 32_768
    """Bytes of a request's head (the connection ends)."""
    memory: int = 384 * MB
    """Bytes of all bodies that are under way (503)."""
    waiting: int = 256
    """Photos that wait to be described (503)."""
    requests: int = 160
    """Requests under way (503)."""
    connections: int = 512
    """Connections; further ones are closed at once."""
    jobs: int = 8
    """Changes of maps that wait (429)."""
    head_seconds: float = 10.0
    """For a request's head, else the connection ends."""
    idle_seconds: float = 10.0
    """Between two pieces of a body (408)."""
    least_rate: int = 32_000
    """Bytes a second that a body brings on average, after the first `idle_seconds` (408)."""
    send_seconds: float = 20.0
    """For a client to take what is sent, else the connection ends."""
    answer_seconds: float = 120.0
    """For an answer to be computed (503)."""
    decode_seconds: float = 20.0
    """For a photo to be decoded (422)."""
    decode_cpu_seconds: float = 6.0
    """Of the processor, likewise: what passes is decoded again where it is used."""
    thumbnails: int = 64 * MB
    """Bytes of small pictures that are kept in memory."""
    wrong_tokens: int = 30
    """Wrong tokens a minute (429)."""
    stop_seconds: float = 2.0
    """For requests under way to be answered after SIGTERM."""
