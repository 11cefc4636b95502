"""`dejavlad serve`: maps, training runs and results over HTTP, for a browser and for programs."""

from __future__ import annotations

import importlib.util
import logging
import sys
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dejavlad.cli.terminal import Flag
from dejavlad.errors import MissingExtraError

if TYPE_CHECKING:
    from dejavlad.serve.options import ServeOptions
    from dejavlad.serve.service import Service

NEEDED = ("starlette", "uvicorn", "python_multipart", "prometheus_client")


@Parameter(name="*")
@dataclass(frozen=True)
class ServiceOptions:
    """`ServeOptions` as the command takes them: the token in a file, one name after another."""

    host: str = "127.0.0.1"
    "The address to listen on; one that others reach needs a token."
    port: int = 8000
    "The port; 0 takes one that is free."
    token: Path | None = None
    "A file with a secret of 16 characters or more, which clients must send."
    writable: Flag = False
    "Photos may be added and removed (maps in folders)."
    keep: Path | None = None
    "A folder to keep photos in that are asked about, with their answers. Without it none is kept."
    tiles: str | None = None
    "Where the page may fetch a street map: https://HOST/{z}/{x}/{y}.png. Without it nothing is fetched."
    attribution: str | None = None
    "Whom the street map is by, as its terms want it shown."
    name: Annotated[list[str] | None, Parameter(negative=())] = None
    "A name, besides this machine's addresses, under which it is reached (repeatable)."
    device: str = "auto"
    "Where the model computes: auto, cpu, cuda, mps."
    precision: str = "fp32"
    "fp32 or bf16."
    batch_size: int = 8
    "Photos that are described together."

    def checked(self) -> ServeOptions:
        """As the service takes them."""
        from dejavlad.serve.options import ServeOptions, read_token

        given = asdict(self) | {"token": None if self.token is None else read_token(self.token)}
        names = tuple(name.lower() for name in given.pop("name") or ())
        return ServeOptions(**given, names=names)


def serve(
    sources: Annotated[list[str], Parameter(name="MAP", negative=())],
    /,
    *,
    service: ServiceOptions = ServiceOptions(),
    quiet: Flag = False,
    json: Flag = False,
) -> None:
    """Serve maps over HTTP: a page to ask where photos were taken, and an interface for programs (/v1).

    Only this machine can reach it, unless another --host and a --token are given. Ctrl-C ends it.

    Examples:

        dejavlad serve town.map
        dejavlad serve town.map --writable
        dejavlad serve town.map --host 0.0.0.0 --token secret.txt
        dejavlad serve s3://bucket/town
        dejavlad serve RUN
        dejavlad serve town.map --port 0 --json

    Parameters
    ----------
    sources
        Maps, from `dejavlad map build`: folders or addresses of databases, whose changes are seen within a
        second; also training runs and results, whose pages are shown.
    quiet
        Say nothing but errors.
    json
        Print one line of JSON once it answers, for programs that start it: its address, maps and pages.
    """
    for module in NEEDED:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError("`dejavlad serve`", "serve")
    options = service.checked()
    options.check_sources(sources)
    from dejavlad.serve.server import serve as run

    logging.basicConfig(level=logging.ERROR if quiet else logging.WARNING, format="%(message)s")

    def started(service: Service, address: str) -> None:
        if json:
            ready = {"address": address, "maps": list(service.maps), "pages": list(service.pages)}
            print(dumps(ready), flush=True)
        if not quiet:
            print(f"open {address} (Ctrl-C ends it)", file=sys.stderr, flush=True)

    run(sources, options, on_start=started)
