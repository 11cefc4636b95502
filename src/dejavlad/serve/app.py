"""Routes of the service and what answers them."""

from __future__ import annotations

import asyncio
import io
import json
import math
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router

from dejavlad import __version__
from dejavlad.decoders import ENDINGS
from dejavlad.errors import InputError
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.photo import Photo
from dejavlad.places.answer import Answer
from dejavlad.places.verification.points import NO_CHECK, PointSetting
from dejavlad.positions.exif_write import with_gps
from dejavlad.serve.catalogue import MOST, Box, photo_fields
from dejavlad.serve.gate import SESSION, SESSION_SECONDS, Gate, Receive, Scope, Send
from dejavlad.serve.openapi import document
from dejavlad.serve.photo_id import key_of
from dejavlad.serve.questions import FILTERS, DescribeQuestion, LocateQuestion, answer_fields
from dejavlad.serve.refusal import Refusal
from dejavlad.serve.served_map import ServedMap
from dejavlad.serve.service import Service, unread_refusal
from dejavlad.serve.thumbnails import SIZES, size_of
from dejavlad.serve.upload_file import as_file
from dejavlad.serve.uploads import Upload, read_body

NPY: Final = "application/octet-stream"
MOST_POINTS: Final = 20_000

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Handlers:
    """What answers each route.

    Args:
        service: what computes and keeps.
    """

    def __init__(self, service: Service) -> None:
        self.service = service

    # --- what the service is -------------------------------------------------------------------------

    async def health(self, request: Request) -> Response:
        """Whether it answers."""
        return as_json({"status": "ok", "version": __version__})

    async def about(self, request: Request) -> Response:
        """What the page needs to know."""
        options, limits = self.service.options, self.service.limits
        tiles = None if options.tiles is None else {"url": options.tiles, "attribution": options.attribution}
        return as_json(
            {
                "version": __version__,
                "writable": options.writable,
                "token": options.token is not None,
                "keep": options.keep is not None,
                "tiles": tiles,
                "maps": list(self.service.maps),
                "pages": [page.to_dict() for page in self.service.pages.values()],
                "image_sizes": list(SIZES),
                "photo_endings": list(ENDINGS),
                "limits": {
                    "body_bytes": limits.body,
                    "photo_bytes": limits.photo,
                    "photo_pixels": self.service.pixels,
                    "photos": limits.photos,
                    "matches": limits.matches,
                    "page_photos": MOST,
                },
            }
        )

    async def openapi(self, request: Request) -> Response:
        """The interface as a document."""
        return as_json(document(__version__, self.service.options.token is not None))

    async def metrics(self, request: Request) -> Response:
        """Counts and times."""
        metrics = self.service.metrics
        for served in self.service.maps.values():
            metrics.map_photos.labels(served.name).set(await self._catalogue(served, len))
        return Response(metrics.text(), headers={"content-type": metrics.content_type})

    async def begin_session(self, request: Request) -> Response:
        """A cookie that stands for the token."""
        gate: Gate = request.scope["state"]["gate"]
        headers = dict(request.headers)
        if self.service.options.token is not None and not gate.is_token(headers):
            raise Refusal(401, "a token is needed: send the header `Authorization: Bearer TOKEN`")
        response = as_json({"seconds": SESSION_SECONDS})
        response.set_cookie(
            SESSION,
            gate.begin_session(),
            max_age=int(SESSION_SECONDS),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    # --- photos that are asked about -----------------------------------------------------------------

    async def locate(self, request: Request) -> Response:
        """Where were photos taken?"""
        query = Query(request)
        served = self.service.map(query.text("map"))
        filters = {name: value for name in FILTERS if (value := query.text(name)) is not None}
        question = LocateQuestion(
            served, query.number("k", 5, 1, self.service.limits.matches), verify_of(query), filters
        )
        query.done()
        async with self._body(request) as body:
            answers, checks = await self._answers(body.photos, question)
            answers = [
                answer if answer is not None else unread_answer(upload.name, served.name, check.reason or "")
                for answer, check, upload in zip(answers, checks, body.photos, strict=True)
            ]
            await self.service.keep(body.photos, answers)
            return as_json({"map": served.name, "answers": answers})

    async def describe(self, request: Request) -> Response:
        """What are photos' descriptors?"""
        query = Query(request)
        served = self.service.map(query.text("map"))
        query.done()
        as_npy = NPY in request.headers.get("accept", "")
        async with self._body(request) as body:
            answers, checks = await self._answers(body.photos, DescribeQuestion(served))
            model = served.model
            rows: list[Any] = []
            described: list[dict[str, Any]] = []
            for upload, answer, check in zip(body.photos, answers, checks, strict=True):
                row, reason = (np.empty(0), check.reason) if answer is None else answer
                if as_npy and reason is not None:
                    raise Refusal(422, f"photo {upload.name!r} has no descriptor: {reason}")
                rows.append(row)
                described.append(
                    {
                        "name": upload.name,
                        "descriptor": None if reason is not None else [float(x) for x in row],
                        "failed": reason,
                    }
                )
            names = {"model": model.title, "fingerprint": model.fingerprint, "dims": model.descriptor_size}
            if not as_npy:
                return as_json({**names, "map": served.name, "descriptors": described})
            file = io.BytesIO()
            np.save(file, np.stack(rows).astype(np.float32), allow_pickle=False)
            return Response(file.getvalue(), media_type=NPY)

    async def match(self, request: Request) -> Response:
        """Do two photos show one place?"""
        query = Query(request)
        verify = verify_of(query)
        name, identity = query.text("map"), query.text("photo")
        query.done()
        async with self._body(request) as body:
            identity = identity or body.fields.get("photo")
            name = name or body.fields.get("map")
            wanted = 2 if identity is None else 1
            if len(body.photos) != wanted:
                raise Refusal(
                    400, f"match takes two photos, or one and photo=ID of a map; given {len(body.photos)}"
                )
            checks = await self.service.decode(body.photos)
            for check, upload in zip(checks, body.photos, strict=True):
                if check.reason is not None:
                    raise unread_refusal([check], [upload])
            with as_file(body.photos[0].content) as first:
                query_photo = Photo(f"0/{body.photos[0].name}", first)
                if identity is not None:
                    served = self.service.map(name)
                    candidate, setting = await self._map_photo(served, identity, verify)
                    return as_json(await self.service.match(query_photo, candidate, setting))
                with as_file(body.photos[1].content) as second:
                    candidate = Photo(f"1/{body.photos[1].name}", second)
                    return as_json(await self.service.match(query_photo, candidate, verify))

    async def exif(self, request: Request) -> Response:
        """A copy of a JPEG with a position in its EXIF."""
        query = Query(request)
        lat, lon = query.real("lat", -90, 90), query.real("lon", -180, 180)
        uncertainty = query.real("uncertainty_m", 0, 1e7)
        query.done()
        if lat is None or lon is None:
            raise Refusal(400, "give the position: lat=DEGREES&lon=DEGREES")
        async with self._body(request) as body:
            if len(body.photos) != 1:
                raise Refusal(400, f"give one JPEG; given {len(body.photos)}")
            upload = body.photos[0]
            try:
                content = await self.service.in_pool(with_gps, upload.content, lat, lon, uncertainty)
            except InputError as error:
                raise Refusal(415 if "no JPEG" in str(error) else 422, str(error)) from None
            return Response(content, media_type="image/jpeg")

    # --- maps ----------------------------------------------------------------------------------------

    async def maps(self, request: Request) -> Response:
        """All maps."""
        Query(request).done()
        return as_json({"maps": [await self._map_fields(served) for served in self.service.maps.values()]})

    async def map(self, request: Request) -> Response:
        """One map."""
        Query(request).done()
        return as_json(await self._map_fields(self._served(request)))

    async def photos(self, request: Request) -> Response:
        """A map's photos, page by page."""
        query, served = Query(request), self._served(request)
        cursor, limit, box = query.text("cursor"), query.number("limit", 100, 1, MOST), query.box("bbox")
        query.done()
        page = await self._catalogue(served, lambda catalogue: catalogue.page(cursor, limit, box))
        for fields in page.photos:
            fields["image"] = image_address(served, fields["id"])
        return as_json({"photos": page.photos, "total": page.total, "cursor": page.cursor})

    async def points(self, request: Request) -> Response:
        """Where a map's photos were taken, in brief."""
        query, served = Query(request), self._served(request)
        limit, box = query.number("limit", 5000, 1, MOST_POINTS), query.box("bbox")
        query.done()
        return as_json(await self._catalogue(served, lambda catalogue: catalogue.points(limit, box)))

    async def photo(self, request: Request) -> Response:
        """One photo of a map."""
        Query(request).done()
        served, identity = self._served(request), request.path_params["id"]
        fields = await self._catalogue(served, lambda catalogue: photo_fields(catalogue.photo(identity)))
        return as_json({**fields, "image": image_address(served, fields["id"])})

    async def image(self, request: Request) -> Response:
        """A small picture of a photo of a map."""
        query, served = Query(request), self._served(request)
        size = size_of(query.number("size", 640, 1, 8192))
        query.done()
        identity = request.path_params["id"]

        def look(catalogue: Any) -> tuple[Photo, bool]:
            photo = catalogue.photo(identity)
            return photo, catalogue.is_array(photo.key)

        photo, is_array = await self._catalogue(served, look)
        picture, etag = await self.service.picture(photo, is_array, served.name, size)
        headers = {"etag": etag, "cache-control": "private, max-age=60"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(picture, media_type="image/jpeg", headers=headers)

    async def add(self, request: Request) -> Response:
        """Add photos to a map."""
        query, served = Query(request), self._served(request)
        lat, lon = query.real("lat", -80, 84), query.real("lon", -180, 180)
        query.done()
        if (lat is None) != (lon is None):
            raise Refusal(400, "give both lat and lon, or none of them")
        position: Position | None = None
        if lat is not None and lon is not None:
            position = utm_from_latlon(lat, lon)
        writer = self.service.writer
        if writer is None:
            raise Refusal(403, "this service changes no maps; start it with --writable")
        async with self._body(request) as body:
            if not body.photos:
                raise Refusal(400, "give at least one photo")
            checks = await self.service.decode(body.photos, served.model.preprocess)
            good = [u for u, check in zip(body.photos, checks, strict=True) if check.reason is None]
            if not good:
                raise unread_refusal(checks, body.photos)
            job = await self.service.in_pool(writer.add, served, good, position)
            for upload, check in zip(body.photos, checks, strict=True):
                if check.reason is not None:
                    job.failed[upload.name] = check.reason
        address = f"/v1/jobs/{job.id}"
        return as_json({**job.to_dict(), "address": address}, 202, {"location": address})

    async def job(self, request: Request) -> Response:
        """How a change goes."""
        Query(request).done()
        writer, identity = self.service.writer, request.path_params["id"]
        job = None if writer is None else writer.jobs.get(identity)
        if job is None:
            raise Refusal(404, f"there is no job {identity[:40]!r}")
        return as_json(job.to_dict())

    async def remove(self, request: Request) -> Response:
        """Take a photo out of a map."""
        Query(request).done()
        served, identity = self._served(request), request.path_params["id"]
        writer = self.service.writer
        if writer is None:
            raise Refusal(403, "this service changes no maps; start it with --writable")
        key = key_of(identity)
        await self.service.in_pool(writer.remove, served, key)
        photos = await self._catalogue(served, len)
        return as_json({"removed": 1, "name": key, "photos": photos})

    # --- pages ---------------------------------------------------------------------------------------

    async def report(self, request: Request) -> Response:
        """A file of a training run or of results."""
        page = self.service.pages.get(request.path_params["name"])
        if page is None:
            raise Refusal(404, "there is no such page")
        served = await self.service.in_pool(page.file, request.path_params.get("path", ""))
        return Response(served.content, headers={"content-type": served.media, **served.headers})

    async def page(self, request: Request) -> Response:
        """A file of the page."""
        path = request.url.path
        if path == "/" and not self.service.maps and len(self.service.pages) == 1:
            return RedirectResponse(f"/pages/{next(iter(self.service.pages))}/")
        file = self.service.page.get(path)
        if file is None:
            raise Refusal(404, "there is nothing at this address")
        headers = {"etag": file.etag, "cache-control": "no-cache", "content-type": file.media}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers)

    # --- shared --------------------------------------------------------------------------------------

    def _served(self, request: Request) -> ServedMap:
        return self.service.map(request.path_params["map"])

    async def _catalogue(self, served: ServedMap, look: Callable[[Any], Any]) -> Any:
        """What a look at a map's photos gives, in a thread."""

        return await self.service.in_pool(served.look, look)

    async def _map_fields(self, served: ServedMap) -> dict[str, Any]:
        def look(catalogue: Any) -> dict[str, Any]:
            head = catalogue.snapshot.head
            return {
                "name": served.name,
                "photos": head.photos,
                "with_position": head.with_position,
                "model": served.model.title,
                "fingerprint": served.fingerprint,
                "dims": served.model.descriptor_size,
                "bbox": catalogue.box,
                "degrees": catalogue.in_degrees,
                "change": head.change,
                "writable": self.service.options.writable,
            }

        fields: dict[str, Any] = await self._catalogue(served, look)
        return fields

    async def _map_photo(
        self, served: ServedMap, identity: str, verify: str
    ) -> tuple[Photo, PointSetting | str]:
        """A photo of a map, and how answers of that map are verified."""

        def look(catalogue: Any) -> tuple[Photo, PointSetting | str]:
            photo = catalogue.photo(identity)
            if catalogue.is_array(photo.key):
                raise Refusal(404, "this photo was given as an array, whose pixels the map does not keep")
            return photo, catalogue.setting(verify)

        chosen: tuple[Photo, PointSetting | str] = await self._catalogue(served, look)
        return chosen

    @asynccontextmanager
    async def _body(self, request: Request) -> Any:
        """The body of a request, while photos that wait for company know that more may come."""
        arriving, task = self.service.arriving, asyncio.current_task()
        assert task is not None
        arriving.add(task)
        try:
            async with read_body(request, self.service.limits, self.service.budget) as body:
                arriving.discard(task)
                yield body
        finally:
            arriving.discard(task)

    async def _answers(self, uploads: list[Upload], question: Any) -> tuple[list[Any], list[Any]]:
        """An answer for each photo, None where it cannot be decoded, and how decoding went.

        Raises:
            Refusal: no photo, or none that can be decoded.
        """
        if not uploads:
            raise Refusal(400, "give at least one photo, as the body or as multipart field `photos`")
        checks = await self.service.decode(uploads, question.preprocess)
        good = [upload for upload, check in zip(uploads, checks, strict=True) if check.reason is None]
        if not good:
            raise unread_refusal(checks, uploads)
        answered = iter(await self.service.ask(good, question))
        return [next(answered) if check.reason is None else None for check in checks], checks


class Query:
    """The options in an address; each may stand there once, and all must be known.

    Args:
        request: the request.
    """

    def __init__(self, request: Request) -> None:
        self._options: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            if name in self._options:
                raise Refusal(400, f"option {name[:40]!r} is given twice")
            self._options[name] = value
        self._known = {"name"}

    def text(self, name: str) -> str | None:
        """An option; None where it is not given."""
        self._known.add(name)
        return self._options.get(name)

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number."""
        text = self.text(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
            raise Refusal(400, f"{name}={text[:40]!r}: give a whole number of {least} to {most}")
        return int(text)

    def real(self, name: str, least: float, most: float) -> float | None:
        """A number; None where it is not given."""
        text = self.text(name)
        if text is None:
            return None
        try:
            number = float(text) if len(text) < 40 else math.nan
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise Refusal(400, f"{name}={text[:40]!r}: give a number of {least:g} to {most:g}")
        return number

    def box(self, name: str) -> Box | None:
        """West, south, east and north."""
        text = self.text(name)
        if text is None:
            return None
        try:
            west, south, east, north = (float(part) for part in text[:200].split(","))
        except ValueError:
            raise Refusal(400, f"{name}={text[:40]!r}: give WEST,SOUTH,EAST,NORTH") from None
        if not all(map(math.isfinite, (west, south, east, north))) or south > north:
            raise Refusal(400, f"{name}={text[:40]!r}: give WEST,SOUTH,EAST,NORTH")
        return west, south, east, north

    def done(self) -> None:
        """Raises a Refusal (400) where an option is given that is not known."""
        for name in self._options:
            if name not in self._known:
                raise Refusal(400, f"unknown option {name[:40]!r}; valid: {', '.join(sorted(self._known))}")


def verify_of(query: Query) -> str:
    """The local features by which answers are verified.

    Raises:
        Refusal: no such kind (400).
    """
    verify = query.text("verify") or "auto"
    if verify != NO_CHECK:
        try:
            PointSetting(verify[:40])
        except InputError as error:
            raise Refusal(400, f"verify: {error}; or {NO_CHECK}") from None
    return verify


def unread_answer(name: str, map_name: str, reason: str) -> dict[str, Any]:
    """The answer for a photo that cannot be read."""
    return answer_fields(Answer(f"0/{name}", Path(), (), 0.0, False, failed=reason), map_name)


def image_address(served: ServedMap, identity: str) -> str:
    """Where the picture of a photo of a map is."""
    return f"/v1/maps/{served.name}/photos/{identity}/image"


def as_json(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON; file names of any bytes survive in it."""
    content = json.dumps(document, allow_nan=False).encode("ascii")
    return Response(content, status, headers, "application/json")


def build_app(service: Service) -> Gate:
    """The service as an ASGI application."""
    handlers = Handlers(service)
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/v1/health", handlers.health),
        ("GET", "/v1/service", handlers.about),
        ("GET", "/v1/openapi.json", handlers.openapi),
        ("POST", "/v1/session", handlers.begin_session),
        ("POST", "/v1/locate", handlers.locate),
        ("POST", "/v1/describe", handlers.describe),
        ("POST", "/v1/match", handlers.match),
        ("POST", "/v1/exif", handlers.exif),
        ("GET", "/v1/maps", handlers.maps),
        ("GET", "/v1/maps/{map}", handlers.map),
        ("GET", "/v1/maps/{map}/photos", handlers.photos),
        ("POST", "/v1/maps/{map}/photos", handlers.add),
        ("GET", "/v1/maps/{map}/points", handlers.points),
        ("GET", "/v1/maps/{map}/photos/{id}", handlers.photo),
        ("DELETE", "/v1/maps/{map}/photos/{id}", handlers.remove),
        ("GET", "/v1/maps/{map}/photos/{id}/image", handlers.image),
        ("GET", "/v1/jobs/{id}", handlers.job),
        ("GET", "/metrics", handlers.metrics),
        ("GET", "/pages/{name}/", handlers.report),
        ("GET", "/pages/{name}/{path:path}", handlers.report),
        ("GET", "/{path:path}", handlers.page),
    ]
    by_path: dict[str, dict[str, Handler]] = {}
    for method, path, handler in table:
        by_path.setdefault(path, {})[method] = handler
    routes = [Route(path, Endpoint(path, methods)) for path, methods in by_path.items()]
    router = Router(routes, redirect_slashes=False, lifespan=service.lifespan)
    return Gate(router, service.options, service.metrics, lambda path: path in service.page)


class Endpoint:
    """All methods of an address.

    Args:
        path: the address, as routes are written.
        methods: method -> handler.
    """

    def __init__(self, path: str, methods: dict[str, Handler]) -> None:
        self.path, self.methods = path, methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["state"]["route"] = self.path
        method = scope["method"]
        handler = self.methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = sorted({*self.methods, *(["HEAD"] if "GET" in self.methods else [])})
            raise Refusal(405, f"{method[:10]} is not for this address", {"Allow": ", ".join(allowed)})
        response = await handler(Request(scope, receive))
        await response(scope, receive, send)
