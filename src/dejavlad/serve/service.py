"""What a running service is made of, and how photos go through it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from dejavlad.decoders import NO_IMAGE, RAW, RAW_ENDINGS, most_pixels
from dejavlad.errors import InputError, PhotoError
from dejavlad.images import Preprocess
from dejavlad.model.device import resolve_device
from dejavlad.photo import Photo
from dejavlad.places.verification.points import PointSetting
from dejavlad.serve.decode_check import Checked, DecodeCheck
from dejavlad.serve.inference import Inference
from dejavlad.serve.keep import keep_photo
from dejavlad.serve.metrics import Metrics
from dejavlad.serve.options import ServeOptions
from dejavlad.serve.page_files import ServedFile, page_files
from dejavlad.serve.pair_match import PairMatcher
from dejavlad.serve.questions import Question
from dejavlad.serve.refusal import BUSY_AGAIN, Refusal
from dejavlad.serve.report_pages import ReportPage
from dejavlad.serve.served_map import ServedMap
from dejavlad.serve.thumbnails import ThumbnailCache, thumbnail
from dejavlad.serve.upload_file import as_file
from dejavlad.serve.uploads import MemoryBudget, Upload
from dejavlad.serve.writer import MapWriter

THREADS: Final = 4
"""Threads that make small pictures and look into maps."""

TOO_LARGE: Final = "more than the limit of"
"""What stands in reasons of photos with too many pixels."""

log = logging.getLogger("dejavlad.serve")


class Service:
    """Maps, models, threads and processes of one service.

    Args:
        maps: name -> the map, as it is opened.
        pages: training runs and results.
        options: how it runs.
    """

    def __init__(self, maps: Sequence[ServedMap], pages: Sequence[ReportPage], options: ServeOptions) -> None:
        self.maps = {served.name: served for served in maps}
        self.pages = {page.name: page for page in pages}
        self.options, self.limits = options, options.limits
        self.metrics = Metrics()
        self.budget = MemoryBudget(self.limits.memory)
        self.pixels = min(self.limits.pixels, most_pixels())
        self.check = DecodeCheck(
            replace(self.limits, pixels=self.pixels), max(1, min(4, os.cpu_count() or 1))
        )
        self.arriving: set[asyncio.Task[Any]] = set()
        """Requests with photos that are still being read."""
        self.inference = Inference(
            self.limits,
            self.metrics,
            options.batch_size,
            lambda: len(self.arriving) + self.check.waiting,
        )
        self.matcher = PairMatcher(resolve_device(options.device))
        self.writer = MapWriter(self.limits, options.batch_size) if options.writable else None
        self.thumbnails = ThumbnailCache(self.limits.thumbnails)
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="dejavlad-serve")
        self.page = page_files()
        self._pictures = threading.Semaphore(2)

    def map(self, name: str | None) -> ServedMap:
        """A map by its name; the only one where none is named.

        Raises:
            Refusal: there is no such map (404), or it must be named (400).
        """
        if name is None:
            if len(self.maps) == 1:
                return next(iter(self.maps.values()))
            raise Refusal(
                400, f"say which map: map={'|'.join(self.maps)}" if self.maps else "no map is served"
            )
        served = self.maps.get(name)
        if served is None:
            raise Refusal(404, f"there is no map {name[:80]!r}; there is {', '.join(self.maps) or 'none'}")
        return served

    async def in_pool(self, function: Any, *arguments: Any) -> Any:
        """Run a function in one of the service's threads."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, function, *arguments)

    async def answers(self, uploads: Sequence[Upload], question: Question) -> tuple[list[Any], list[Checked]]:
        """An answer for each photo, None where it cannot be decoded, and how decoding went.

        Raises:
            Refusal: no photo (400), none that can be decoded, or it takes too long (503).
        """
        good, checks = await self.readable(uploads, question.preprocess)
        with ExitStack() as files:
            photos = [Photo(upload.name, files.enter_context(as_file(upload.content))) for upload in good]
            answered = iter(await self.wait(self.inference.submit(photos, question)))
        return [next(answered) if check.reason is None else None for check in checks], checks

    async def readable(
        self, uploads: Sequence[Upload], preprocess: Preprocess
    ) -> tuple[list[Upload], list[Checked]]:
        """The photos that decode and that a model can take, and how decoding of all of them went.

        Raises:
            Refusal: no photo (400), or none that can be decoded.
        """
        if not uploads:
            raise Refusal(400, "give at least one photo, as the body or as multipart field `photos`")
        checks = await self.decode(uploads, preprocess)
        good = [upload for upload, check in zip(uploads, checks, strict=True) if check.reason is None]
        if not good:
            raise unread_refusal(checks, uploads)
        return good, checks

    async def decode(self, uploads: Sequence[Upload], preprocess: Preprocess | None = None) -> list[Checked]:
        """How decoding of each photo goes, and whether it is of a size that a model can take.

        Args:
            uploads: the photos.
            preprocess: how the model prepares them; None asks no model.
        """
        checks = await asyncio.gather(*(self._decode(upload) for upload in uploads))
        if preprocess is not None:
            checks = [check_size(check, preprocess, self.limits.prepared) for check in checks]
        for check in checks:
            self.metrics.photos.labels("read" if check.reason is None else "unread").inc()
        return checks

    async def _decode(self, upload: Upload) -> Checked:
        if not upload.content:
            return Checked(reason="the file is empty")
        if Path(upload.name).suffix.lower() in RAW_ENDINGS:
            return Checked(reason=RAW)
        return await self.check(upload.content)

    async def match(self, query: Photo, candidate: Photo, verify: PointSetting | str) -> dict[str, Any]:
        """Two photos compared by local features.

        Raises:
            Refusal: too many wait, or it takes too long (503); a photo cannot be read (422).
        """
        try:
            (fields,) = await self.wait([self.inference.call(lambda: self.matcher(query, candidate, verify))])
        except PhotoError as error:
            raise Refusal(422, f"a photo cannot be read: {error.reason}") from None
        return dict(fields)

    async def wait(self, answers: Sequence[Future[Any]]) -> list[Any]:
        """What the computing thread makes, in order.

        Raises:
            Refusal: it takes too long (503).
        """
        gathered = asyncio.gather(*map(asyncio.wrap_future, answers), return_exceptions=True)
        gathered.add_done_callback(lambda done: done.cancelled() or done.exception())  # given up
        try:
            outcomes = await asyncio.wait_for(gathered, self.limits.answer_seconds)
        except TimeoutError:
            raise Refusal(503, "the answer takes too long; the service is busy", BUSY_AGAIN) from None
        finally:
            # Photos lie in memory until the thread is done with them.
            for answer in answers:
                answer.cancel()
            await asyncio.shield(_ended(answers))
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return list(outcomes)

    async def picture(self, photo: Photo, map_name: str, size: int) -> ServedFile:
        """A small picture of a photo of a map.

        Raises:
            Refusal: it cannot be read any more (404).
        """

        def make() -> ServedFile:
            try:
                status = photo.path.stat()
                key = map_name, photo.key, status.st_size, status.st_mtime_ns, size
                kept = self.thumbnails.get(key)
                if kept is not None:
                    return kept
                with self._pictures:
                    return self.thumbnails.put(key, thumbnail(photo, size))
            except PhotoError as error:
                raise Refusal(404, f"the photo cannot be read: {error.reason}") from None
            except OSError:
                raise Refusal(404, "the photo's file is not there any more") from None

        picture: ServedFile = await self.in_pool(make)
        return picture

    async def keep(self, uploads: Sequence[Upload], answers: Sequence[dict[str, Any]]) -> None:
        """Write photos and answers where the user wants them kept."""
        folder = self.options.keep
        if folder is None:
            return
        for upload, answer in zip(uploads, answers, strict=True):
            try:
                await self.in_pool(keep_photo, folder, upload, answer)
            except OSError as error:
                log.error("a photo could not be kept: %s", error)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Any = None) -> AsyncIterator[None]:
        """From the first request to the last."""
        warming = asyncio.create_task(self.check.warm())
        try:
            yield
        finally:
            warming.cancel()
            await self.check.close()

    def end_arriving(self) -> None:
        """Refuse what has not come in whole by now: the service stops."""
        for task in self.arriving:
            task.cancel()

    def close(self) -> bool:
        """End the threads; whether all of them did."""
        ended = self.writer is None or self.writer.stop(0.5)
        self.pool.shutdown(wait=False, cancel_futures=True)
        return self.inference.stop(0.5) and ended


def check_size(check: Checked, preprocess: Preprocess, most: int) -> Checked:
    """The same, or why not where the prepared photo would be too large for memory, or cannot be made."""
    if check.reason is not None:
        return check
    try:
        height, width = preprocess.output_size(check.height, check.width)
    except InputError as error:
        return Checked(reason=str(error))
    if height * width <= most:
        return check
    return Checked(
        reason=f"the model would look at {width}x{height} pixels of it, {TOO_LARGE} {most:,}; "
        "send a smaller copy"
    )


async def _ended(answers: Sequence[Future[Any]]) -> None:
    """Wait until none of them is being computed."""
    while any(answer.running() for answer in answers):
        await asyncio.sleep(0.01)


def unread_refusal(checks: Sequence[Checked], uploads: Sequence[Upload]) -> Refusal:
    """The refusal of a request of whose photos none can be read."""
    reason = checks[0].reason or ""
    plain, bomb, _ = reason.partition(" (a decompression bomb?)")
    status = 415 if reason in (NO_IMAGE, RAW) else 413 if bomb or TOO_LARGE in reason else 422
    reason = plain if bomb else reason
    return Refusal(status, f"cannot read photo {uploads[0].name!r}: {reason}")
