import threading
import time
from collections.abc import Hashable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dejavlad.errors import InputError
from dejavlad.photo import Photo, PhotoList
from dejavlad.serve import inference
from dejavlad.serve.inference import Inference
from dejavlad.serve.limits import Limits
from dejavlad.serve.metrics import Metrics
from dejavlad.serve.refusal import Refusal

MODEL = object()


@dataclass
class Echo:
    """Answers with the photo's name; as slow, and as broken, as a test wants."""

    name: str = "echo"
    together: bool = True
    error: Exception | None = None
    groups: list[list[str]] = field(default_factory=list)

    @property
    def group(self) -> Hashable:
        return self.name

    def model(self) -> Any:
        return MODEL

    def answers(
        self, model: Any, rows_QD: np.ndarray, photos: PhotoList, failed: dict[str, str]
    ) -> list[Any]:
        self.groups.append([photo.name for photo in photos])
        if self.error is not None:
            raise self.error
        return [
            (photo.name.partition("/")[2], float(row[0])) for photo, row in zip(photos, rows_QD, strict=True)
        ]


class Thread:
    """The computing thread, whose describing can be held up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[int] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.coming = 0
        monkeypatch.setattr(inference, "described", self._described)
        self.thread = Inference(Limits(waiting=20), Metrics(), 4, lambda: self.coming)

    def _described(self, model: Any, photos: PhotoList, batch_size: int) -> tuple[np.ndarray, dict[str, str]]:
        assert self.may_go.wait(10)
        if any(photo.path.name == "13" for photo in photos):
            raise ArithmeticError("a photo that breaks the network")
        self.batches.append(len(photos))
        return np.array([[float(photo.path.name)] for photo in photos], np.float32), {}

    def ask(self, question: Echo, *numbers: int) -> list[Future[Any]]:
        photos = [Photo("same name", Path(str(number))) for number in numbers]
        return self.thread.submit(photos, question)


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[Thread]:
    made = Thread(monkeypatch)
    yield made
    made.may_go.set()
    assert made.thread.stop(10)


def test_what_waits_is_described_together_and_each_gets_its_own(thread: Thread) -> None:
    thread.may_go.clear()
    question = Echo()
    answers = thread.ask(question, 0)
    time.sleep(0.1)
    answers += [future for n in range(1, 10) for future in thread.ask(question, n)]
    thread.may_go.set()
    assert [future.result(10) for future in answers] == [("same name", float(n)) for n in range(10)]
    assert thread.batches == [1, 4, 4, 1]
    assert len({name for names in question.groups for name in names}) == 10  # no two are mixed up


def test_a_photo_waits_for_those_on_their_way_and_for_no_others(thread: Thread) -> None:
    thread.coming = 1
    first = thread.ask(Echo(), 1)
    second = thread.ask(Echo(), 2)
    assert [future.result(10)[1] for future in first + second] == [1, 2] and thread.batches == [2]


def test_a_fault_is_that_of_its_own_question_alone(thread: Thread) -> None:
    thread.may_go.clear()
    held_up = thread.ask(Echo(), 0)
    time.sleep(0.05)
    bad = thread.ask(Echo("bad", error=InputError("no")), 1, 2)
    worse = thread.ask(Echo("worse", error=RuntimeError("unexpected")), 3)
    good = thread.ask(Echo("good"), 4)
    thread.may_go.set()
    assert held_up[0].result(10) and good[0].result(10) == ("same name", 4.0)
    assert all(isinstance(future.exception(10), InputError) for future in bad)
    assert isinstance(worse[0].exception(10), RuntimeError)
    assert thread.ask(Echo(), 5)[0].result(10) == ("same name", 5.0)


def test_a_photo_that_breaks_the_network_fails_alone(thread: Thread) -> None:
    thread.may_go.clear()
    answers = thread.ask(Echo(), 11, 12, 13, 14)
    thread.may_go.set()
    assert [answers[i].result(10)[1] for i in (0, 1, 3)] == [11, 12, 14]
    assert isinstance(answers[2].exception(10), ArithmeticError)


def test_other_calls_come_in_their_turn(thread: Thread) -> None:
    thread.may_go.clear()
    order: list[str] = []
    first = thread.ask(Echo(), 0)
    time.sleep(0.05)
    call = thread.thread.call(lambda: order.append("call"))
    second = thread.ask(Echo(), 1)
    second[0].add_done_callback(lambda _: order.append("photo"))
    thread.may_go.set()
    assert first[0].result(10) and call.result(10) is None and second[0].result(10)
    assert order == ["call", "photo"]
    assert isinstance(thread.thread.call(lambda: 1 / 0).exception(10), ZeroDivisionError)


def test_too_many_are_refused_and_those_given_up_are_passed_over(thread: Thread) -> None:
    thread.may_go.clear()
    question = Echo()
    first = thread.ask(question, 0)
    time.sleep(0.05)
    waiting = thread.ask(question, *range(1, 20))
    with pytest.raises(Refusal) as caught:
        thread.ask(question, 20, 21)
    assert caught.value.status == 503 and "Retry-After" in caught.value.headers
    assert all(future.cancel() for future in waiting)
    thread.may_go.set()
    assert first[0].result(10) and thread.ask(question, 30)[0].result(10) == ("same name", 30.0)
    assert sum(map(len, question.groups)) == 2


def test_what_waits_is_answered_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Thread(monkeypatch)
    made.may_go.clear()
    answers = made.ask(Echo(), *range(6))
    assert not made.thread.stop(0.05)  # in the middle of a computation
    made.may_go.set()
    assert [future.result(10)[1] for future in answers] == list(range(6))
    assert made.thread.stop(10)
    with pytest.raises(Refusal, match="stopping"):
        made.ask(Echo(), 1)
