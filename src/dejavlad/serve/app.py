"""Routes of the service and what answers them."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router

from dejavlad import __version__
from dejavlad.decoders import ENDINGS
from dejavlad.errors import InputError
from dejavlad.geo import utm_from_latlon
from dejavlad.photo import Photo
from dejavlad.places.answer import Answer
from dejavlad.places.filters import Filter
from dejavlad.places.verification.points import PointSetting
from dejavlad.positions.exif_write import with_gps
from dejavlad.serve.catalogue import MOST, MapCatalogue, photo_fields
from dejavlad.serve.gate import SESSION, SESSION_SECONDS, Gate, Receive, Scope, Send
from dejavlad.serve.limits import MATCHES
from dejavlad.serve.openapi import document
from dejavlad.serve.operations import FILTERS, JPEG, JSON, NPY, OPERATIONS, Operation
from dejavlad.serve.page_files import ServedFile
from dejavlad.serve.photo_id import key_of
from dejavlad.serve.questions import DescribeQuestion, LocateQuestion, answer_fields
from dejavlad.serve.refusal import BUSY_AGAIN, Refusal
from dejavlad.serve.served_map import ServedMap
from dejavlad.serve.service import Service, unread_refusal
from dejavlad.serve.thumbnails import SIZES, size_of
from dejavlad.serve.upload_file import as_file
from dejavlad.serve.uploads import Body, Upload, clean_name, read_body
from dejavlad.serve.writer import MapWriter

UNNAMED: Final = "photo"
"""What a photo is called whose sender gives it no name."""

Answering = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A request as the table of operations reads it."""

    request: Request
    options: dict[str, Any]
    """Those of the operation, and what stands in the path."""
    photos: tuple[Upload, ...] = ()
    """That came with it, in memory until it is answered."""

    def __getitem__(self, name: str) -> Any:
        return self.options[name]


class Handlers:
    """What answers each operation: with a document for JSON, or a whole response.

    Args:
        service: what computes and keeps.
    """

    def __init__(self, service: Service) -> None:
        self.service = service

    async def answer(self, operation: Operation, request: Request) -> Response:
        """Read a request as its operation says, and answer it."""
        handler: Callable[[Inquiry], Awaitable[Any]] = getattr(self, operation.handler)
        given = request.query_params.multi_items()
        form = request.headers.get("content-type", "").startswith("multipart/")
        options = operation.read(given, whole=not (operation.photos and form)) | request.path_params
        if options.get("map") is not None:
            self.service.map(options["map"])  # refused before the photos are read
        if operation.writes and self.service.writer is None:
            raise Refusal(403, "this service changes no maps; start it with --writable")
        if not operation.photos:
            answer = await handler(Inquiry(request, options))
        else:
            async with self._body(request) as body:
                options |= operation.read([*given, *body.fields])
                unnamed = clean_name(options["name"] or UNNAMED, self.service.limits)
                photos = tuple(
                    upload if upload.name else replace(upload, name=unnamed) for upload in body.photos
                )
                answer = await handler(Inquiry(request, options, photos))
        return answer if isinstance(answer, Response) else as_json(answer, operation.status)

    # --- what the service is -------------------------------------------------------------------------

    async def health(self, inquiry: Inquiry) -> Any:
        """Whether it answers."""
        return {"status": "ok", "version": __version__}

    async def about(self, inquiry: Inquiry) -> Any:
        """What the page needs to know."""
        options, limits = self.service.options, self.service.limits
        tiles = None if options.tiles is None else {"url": options.tiles, "attribution": options.attribution}
        return {
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
                "matches": MATCHES,
                "page_photos": MOST,
            },
        }

    async def openapi(self, inquiry: Inquiry) -> Any:
        """The interface as a document."""
        return document(__version__, self.service.options.token is not None)

    async def metrics(self, inquiry: Inquiry) -> Any:
        """Counts and times."""
        metrics = self.service.metrics
        for served in self.service.maps.values():
            metrics.map_photos.labels(served.name).set(await self._catalogue(served, len))
        return Response(metrics.text(), headers={"content-type": metrics.content_type})

    async def begin_session(self, inquiry: Inquiry) -> Any:
        """A cookie that stands for the token."""
        gate: Gate = inquiry.request.scope["state"]["gate"]
        gate.require_token(dict(inquiry.request.headers))
        response = as_json({"seconds": SESSION_SECONDS})
        response.set_cookie(
            SESSION,
            gate.begin_session(),
            max_age=int(SESSION_SECONDS),
            httponly=True,
            samesite="strict",
            secure=inquiry.request.url.scheme == "https",
        )
        return response

    # --- photos that are asked about -----------------------------------------------------------------

    async def locate(self, inquiry: Inquiry) -> Any:
        """Where were photos taken?"""
        served = self.service.map(inquiry["map"])
        only = Filter.of(**{option.name: inquiry[option.name] for option in FILTERS})
        question = LocateQuestion(served, inquiry["k"], inquiry["verify"], only)
        answers, checks = await self.service.answers(inquiry.photos, question)
        for row, (answer, upload) in enumerate(zip(answers, inquiry.photos, strict=True)):
            if answer is None:
                failed = Answer(f"0/{upload.name}", Path(), (), 0.0, False, failed=checks[row].reason)
                answers[row] = answer_fields(failed, served.name)
        await self.service.keep(inquiry.photos, answers)
        return {"map": served.name, "answers": answers}

    async def describe(self, inquiry: Inquiry) -> Any:
        """What are photos' descriptors?"""
        served = self.service.map(inquiry["map"])
        answers, checks = await self.service.answers(inquiry.photos, DescribeQuestion(served))
        described = [
            (np.empty(0), check.reason) if answer is None else (answer.row_D, answer.reason)
            for answer, check in zip(answers, checks, strict=True)
        ]
        models = {answer.model for answer in answers if answer is not None} or {served.model}
        if len(models) > 1:
            raise Refusal(503, f"the map {served.name!r} is being made anew of another model", BUSY_AGAIN)
        names = [upload.name for upload in inquiry.photos]
        if NPY in inquiry.request.headers.get("accept", ""):
            for name, (_, reason) in zip(names, described, strict=True):
                if reason is not None:
                    raise Refusal(422, f"photo {name!r} has no descriptor: {reason}")
            file = io.BytesIO()
            np.save(file, np.stack([row for row, _ in described]).astype(np.float32), allow_pickle=False)
            return Response(file.getvalue(), media_type=NPY)
        model = models.pop()
        return {
            "map": served.name,
            "model": model.title,
            "fingerprint": model.fingerprint,
            "dims": model.descriptor_size,
            "descriptors": [
                {"name": name, "descriptor": None if reason else row.tolist(), "failed": reason}
                for name, (row, reason) in zip(names, described, strict=True)
            ],
        }

    async def match(self, inquiry: Inquiry) -> Any:
        """Do two photos show one place?"""
        identity, setting = inquiry["photo"], inquiry["verify"]
        if len(inquiry.photos) != (2 if identity is None else 1):
            raise Refusal(
                400, f"match takes two photos, or one and photo=ID of a map; given {len(inquiry.photos)}"
            )
        for check, upload in zip(await self.service.decode(inquiry.photos), inquiry.photos, strict=True):
            if check.reason is not None:
                raise unread_refusal([check], [upload])
        with as_file(inquiry.photos[0].content) as first, as_file(inquiry.photos[-1].content) as second:
            query = Photo(f"0/{inquiry.photos[0].name}", first)
            candidate = Photo(f"1/{inquiry.photos[-1].name}", second)
            if identity is not None:

                def look(catalogue: MapCatalogue) -> tuple[Photo, PointSetting]:
                    return catalogue.readable_photo(identity), catalogue.setting(setting)

                candidate, setting = await self._catalogue(self.service.map(inquiry["map"]), look)
            return await self.service.match(query, candidate, setting)

    async def exif(self, inquiry: Inquiry) -> Any:
        """A copy of a JPEG with a position in its EXIF."""
        if len(inquiry.photos) != 1:
            raise Refusal(400, f"give one JPEG; given {len(inquiry.photos)}")
        place = inquiry["lat"], inquiry["lon"], inquiry["uncertainty_m"]
        try:
            content = await self.service.in_pool(with_gps, inquiry.photos[0].content, *place)
        except InputError as error:
            raise Refusal(415 if "no JPEG" in str(error) else 422, str(error)) from None
        return Response(content, media_type=JPEG)

    # --- maps ----------------------------------------------------------------------------------------

    async def maps(self, inquiry: Inquiry) -> Any:
        """All maps."""
        return {"maps": [await self._map_fields(served) for served in self.service.maps.values()]}

    async def map(self, inquiry: Inquiry) -> Any:
        """One map."""
        return await self._map_fields(self.service.map(inquiry["map"]))

    async def photos(self, inquiry: Inquiry) -> Any:
        """A map's photos, page by page."""
        served, page = (
            self.service.map(inquiry["map"]),
            (inquiry["cursor"], inquiry["limit"], inquiry["bbox"]),
        )
        return await self._catalogue(served, lambda catalogue: catalogue.page(served.name, *page))

    async def points(self, inquiry: Inquiry) -> Any:
        """Where a map's photos were taken, in brief."""
        served = self.service.map(inquiry["map"])
        return await self._catalogue(served, lambda c: c.points(inquiry["limit"], inquiry["bbox"]))

    async def photo(self, inquiry: Inquiry) -> Any:
        """One photo of a map."""
        served = self.service.map(inquiry["map"])
        return await self._catalogue(served, lambda c: photo_fields(c.photo(inquiry["id"]), served.name))

    async def image(self, inquiry: Inquiry) -> Any:
        """A small picture of a photo of a map."""
        served = self.service.map(inquiry["map"])
        photo = await self._catalogue(served, lambda catalogue: catalogue.readable_photo(inquiry["id"]))
        picture = await self.service.picture(photo, served.name, size_of(inquiry["size"]))
        return sent(inquiry.request, picture)

    async def add(self, inquiry: Inquiry) -> Any:
        """Add photos to a map."""
        served, writer = self.service.map(inquiry["map"]), self._writer()
        lat, lon = inquiry["lat"], inquiry["lon"]
        if (lat is None) != (lon is None):
            raise Refusal(400, "give both lat and lon, or none of them")
        position = None if lat is None else utm_from_latlon(lat, lon)
        good, checks = await self.service.readable(inquiry.photos, served.model.preprocess)
        job = await self.service.in_pool(writer.add, served, good, position)
        for upload, check in zip(inquiry.photos, checks, strict=True):
            if check.reason is not None:
                job.failed[upload.name] = check.reason
        address = f"/v1/jobs/{job.id}"
        return as_json({**job.to_dict(), "address": address}, 202, {"location": address})

    async def job(self, inquiry: Inquiry) -> Any:
        """How a change goes."""
        writer, identity = self.service.writer, inquiry["id"]
        job = None if writer is None else writer.jobs.get(identity)
        if job is None:
            raise Refusal(404, f"there is no job {identity[:40]!r}")
        return job.to_dict()

    async def remove(self, inquiry: Inquiry) -> Any:
        """Take a photo out of a map."""
        served, key = self.service.map(inquiry["map"]), key_of(inquiry["id"])
        await self.service.in_pool(self._writer().remove, served, key)
        return {"removed": 1, "name": key, "photos": await self._catalogue(served, len)}

    # --- pages ---------------------------------------------------------------------------------------

    async def report(self, request: Request) -> Response:
        """A file of a training run or of results."""
        page = self.service.pages.get(request.path_params["name"])
        if page is None:
            raise Refusal(404, "there is no such page")
        return sent(request, await self.service.in_pool(page.file, request.path_params.get("path", "")))

    async def page(self, request: Request) -> Response:
        """A file of the page."""
        path = request.url.path
        if path == "/" and not self.service.maps and len(self.service.pages) == 1:
            return RedirectResponse(f"/pages/{next(iter(self.service.pages))}/")
        file = self.service.page.get(path)
        if file is None:
            raise Refusal(404, "there is nothing at this address")
        return sent(request, file)

    # --- shared --------------------------------------------------------------------------------------

    def _writer(self) -> MapWriter:
        writer = self.service.writer
        assert writer is not None  # see `answer`
        return writer

    async def _catalogue(self, served: ServedMap, look: Callable[[MapCatalogue], Any]) -> Any:
        """What a look at a map's photos gives, in a thread."""
        return await self.service.in_pool(served.look, look)

    async def _map_fields(self, served: ServedMap) -> dict[str, Any]:
        fields: dict[str, Any] = await self._catalogue(served, MapCatalogue.to_dict)
        return {
            "name": served.name,
            **fields,
            "model": served.model.title,
            "fingerprint": served.fingerprint,
            "dims": served.model.descriptor_size,
            "writable": self.service.options.writable,
        }

    @asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[Body]:
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


def as_json(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON; file names of any bytes survive in it."""
    content = json.dumps(document, allow_nan=False).encode("ascii")
    return Response(content, status, headers, JSON)


def sent(request: Request, file: ServedFile) -> Response:
    """A file, or word that the one which the client has already is the same."""
    headers = {"etag": file.etag, "content-type": file.media, **file.headers}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers)


def build_app(service: Service) -> Gate:
    """The service as an ASGI application."""
    handlers = Handlers(service)
    by_path: dict[str, dict[str, Answering]] = {}
    for operation in OPERATIONS:
        methods = by_path.setdefault(operation.path, {})
        methods[operation.method] = partial(handlers.answer, operation)
    by_path["/pages/{name}/"] = by_path["/pages/{name}/{path:path}"] = {"GET": handlers.report}
    by_path["/{path:path}"] = {"GET": handlers.page}
    routes = [Route(path, Endpoint(path, methods)) for path, methods in by_path.items()]
    router = Router(routes, redirect_slashes=False, lifespan=service.lifespan)
    return Gate(router, service.options, service.metrics, lambda path: path in service.page)


class Endpoint:
    """All methods of an address.

    Args:
        path: the address, as routes are written.
        methods: method -> what answers it.
    """

    def __init__(self, path: str, methods: dict[str, Answering]) -> None:
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
