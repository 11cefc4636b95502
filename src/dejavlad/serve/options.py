"""What a service serves and how, as data."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from dejavlad.errors import InputError, StoreError
from dejavlad.guarded.plain_file import read_utf8
from dejavlad.places.address import is_address
from dejavlad.serve.limits import Limits

SHORTEST_TOKEN: Final = 16


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How a service runs.

    Raises:
        InputError: a host that others reach without a token, a port or a tile address that is none.
    """

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 8000
    """The port; 0 takes one that is free."""
    token: str | None = None
    """What clients must know; None asks for nothing."""
    writable: bool = False
    """Whether photos may be added and removed."""
    keep: Path | None = None
    """Where photos that are asked about are kept, with their answers; None keeps none."""
    tiles: str | None = None
    """Where the page may fetch pieces of a map: an address with {z}, {x} and {y}."""
    attribution: str | None = None
    """Whom the tiles are by."""
    names: tuple[str, ...] = ()
    """Names besides this machine's own under which it is reached."""
    device: str = "auto"
    """Where the model computes."""
    precision: str = "fp32"
    """How."""
    batch_size: int = 8
    """Photos that are described together."""
    limits: Limits = field(default_factory=Limits)
    """What is allowed of each request."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"--port {self.port}: give 1 to 65535, or 0 for one that is free")
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise InputError(f"the token has {len(self.token)} characters; give {SHORTEST_TOKEN} or more")
        if not is_loopback(self.host) and self.token is None:
            raise InputError(
                f"--host {self.host} can be reached by others; give --token FILE, a file with a secret of "
                f"{SHORTEST_TOKEN} or more characters (`openssl rand -hex 24 > FILE` makes one)"
            )
        if self.batch_size < 1:
            raise InputError(f"--batch-size {self.batch_size}: give 1 or more")
        if self.tiles is not None:
            tile_origin(self.tiles)

    def check_sources(self, sources: Sequence[str]) -> None:
        """Refuse what cannot be served, before it is opened.

        Raises:
            InputError: nothing is given, or a map in a database is to be writable.
            StoreError: there is nothing.
        """
        if not sources:
            raise InputError("give at least one map, training run or results to serve")
        for source in sources:
            if not is_address(source) and not Path(source).is_dir():
                raise StoreError(f"there is nothing at {source!r}; give a map, a training run or results")
            if is_address(source) and self.writable:
                raise InputError(
                    f"--writable: {source!r} lies in a database; add photos to it with `dejavlad map add`, "
                    "which the service sees"
                )


def read_token(path: Path) -> str:
    """The secret in a file: its first line, without blanks around it.

    Raises:
        InputError: it cannot be read, or is empty.
    """
    try:
        lines = read_utf8(path).strip().splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"--token {str(path)!r} cannot be read: {error}") from None
    if not lines or not lines[0].strip().isascii() or not lines[0].strip().isprintable():
        raise InputError(f"--token {str(path)!r}: its first line must be a secret of ASCII characters")
    return lines[0].strip()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tile_origin(address: str) -> str:
    """Scheme, host and port of a tile address, for the page's content policy.

    Raises:
        InputError: it is no address of tiles.
    """
    parts = urlsplit(address)
    try:
        port = parts.port
    except ValueError:
        port = -1
    host = parts.hostname or ""
    plain = host.isascii() and all(c.isalnum() or c in ".-" for c in host)
    if parts.scheme not in ("http", "https") or not host or not plain or port == -1 or parts.username:
        raise InputError(f"--tiles {address!r}: give an address as https://HOST/{{z}}/{{x}}/{{y}}.png")
    if not all(piece in address for piece in ("{z}", "{x}", "{y}")) or not address.isprintable():
        raise InputError(f"--tiles {address!r}: the address must contain {{z}}, {{x}} and {{y}}")
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")
