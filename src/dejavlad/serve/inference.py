"""The one thread that computes: photos that wait are described together, answers come back as they are ready.

A photo that comes alone does not wait for others; photos wait for one another, a few milliseconds, only while
more of them are being read from the network.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dejavlad.errors import DejavladError
from dejavlad.model import PlaceModel
from dejavlad.photo import Photo, PhotoList
from dejavlad.serve.limits import Limits
from dejavlad.serve.metrics import Metrics
from dejavlad.serve.questions import Question, described
from dejavlad.serve.refusal import BUSY_AGAIN, Refusal

WAIT: Final = 0.004
"""Seconds that photos wait for others which are on their way."""

log = logging.getLogger("dejavlad.serve")


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One photo and what is asked about it."""

    photo: Photo
    question: Question
    answer: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Something else to compute in the thread."""

    function: Callable[[], Any]
    answer: Future[Any] = field(default_factory=Future)


class Inference:
    """The computing thread.

    Args:
        limits: of what may wait.
        metrics: told of batches.
        batch_size: photos described together, at most.
        coming: how many more photos are on their way.
    """

    def __init__(
        self, limits: Limits, metrics: Metrics, batch_size: int, coming: Callable[[], int] = lambda: 0
    ) -> None:
        self.limits, self.metrics, self.batch_size, self.coming = limits, metrics, batch_size, coming
        self._queue: queue.Queue[Item | Call | None] = queue.Queue()
        self._next: list[Item | Call | None] = []
        """What was taken out of the queue and comes next, at most one."""
        self._serial = 0
        self._thread = threading.Thread(target=self._run, name="dejavlad-inference", daemon=True)
        self._thread.start()

    def submit(self, photos: Sequence[Photo], question: Question) -> list[Future[Any]]:
        """Have photos answered.

        Raises:
            Refusal: too many wait already (503).
        """
        self._check(len(photos))
        items = []
        for photo in photos:  # two clients may call their photos alike
            self._serial += 1
            items.append(Item(replace(photo, name=f"{self._serial}/{photo.name}"), question))
        for item in items:
            self._queue.put(item)
        return [item.answer for item in items]

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Have something else computed.

        Raises:
            Refusal: too many wait already (503).
        """
        self._check(1)
        call = Call(function)
        self._queue.put(call)
        return call.answer

    def stop(self, seconds: float) -> bool:
        """End once what waits is done; whether that was so within the time."""
        self._queue.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _check(self, more: int) -> None:
        if not self._thread.is_alive():
            raise Refusal(503, "the service is stopping", BUSY_AGAIN)
        if self._queue.qsize() + more > self.limits.waiting:
            raise Refusal(503, f"{self._queue.qsize()} photos wait already; send them again", BUSY_AGAIN)

    def _run(self) -> None:
        while (first := self._next.pop() if self._next else self._queue.get()) is not None:
            batch = [] if isinstance(first, Call) else self._batch(first)
            started = time.perf_counter()
            if isinstance(first, Call):
                _settle(first.answer, first.function)
            else:
                self._answer(batch)
            self.metrics.computing.inc(time.perf_counter() - started)
            self.metrics.waiting.set(self._queue.qsize())

    def _batch(self, first: Item) -> list[Item]:
        """Photos that wait."""
        batch, until = [first], time.monotonic() + WAIT
        while len(batch) < self.batch_size:
            try:
                patience = until - time.monotonic() if self.coming() else 0
                following = self._queue.get(timeout=patience) if patience > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if not isinstance(following, Item):
                self._next.append(following)
                break
            batch.append(following)
        return batch

    def _answer(self, batch: Sequence[Item]) -> None:
        by_model: dict[int, tuple[PlaceModel, list[Item]]] = {}
        for item in batch:
            if not item.answer.set_running_or_notify_cancel():
                continue
            try:
                model = item.question.model()
            except Exception as error:
                _fail(item.answer, error)
                continue
            by_model.setdefault(id(model), (model, []))[1].append(item)
        for model, items in by_model.values():
            self.metrics.batch.observe(len(items))
            try:
                self._describe_and_answer(model, items)
            except Exception as error:
                if len(items) == 1:
                    _fail(items[0].answer, error)
                    continue
                for item in items:  # the fault of one is not that of those beside it
                    try:
                        self._describe_and_answer(model, [item])
                    except Exception as alone:
                        _fail(item.answer, alone)

    def _describe_and_answer(self, model: PlaceModel, items: list[Item]) -> None:
        photos = PhotoList([item.photo for item in items])
        rows_QD, failed = described(model, photos, self.batch_size)
        groups: dict[Hashable, list[int]] = {}
        for row, item in enumerate(items):
            question = item.question
            groups.setdefault(question.group if question.together else (row,), []).append(row)
        for rows in groups.values():
            group = [items[row] for row in rows]
            try:
                answers = group[0].question.answers(model, rows_QD[rows], photos.take(rows), failed)
            except Exception as error:
                for item in group:
                    _fail(item.answer, error)
                continue
            for item, answer in zip(group, answers, strict=True):
                item.answer.set_result(answer)


def _settle(answer: Future[Any], function: Callable[[], Any]) -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(function())
    except Exception as error:
        _fail(answer, error)


def _fail(answer: Future[Any], error: Exception) -> None:
    if answer.done():
        return
    if not isinstance(error, (DejavladError, Refusal)):
        log.exception("computing an answer failed")
    answer.set_exception(error)
