"""When two names, written differently, mean one photo."""

from __future__ import annotations

import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dejavlad.names import Names, plain_form, same_form

NFC, NFD = (unicodedata.normalize(form, "Straße/Église é 1.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("./a/b.jpg", "a/b.jpg"),
        ("a//b.jpg", "a/b.jpg"),
        ("a/./b.jpg", "a/b.jpg"),
        ("x/../a/b.jpg", "a/b.jpg"),
        ("../a/b.jpg", "../a/b.jpg"),
        ("a\\b.jpg", "a/b.jpg"),
        (".\\a\\b.jpg", "a/b.jpg"),
        ("  a/b.jpg \t", "a/b.jpg"),
        ("/data/a/../b.jpg", "/data/b.jpg"),
        ("a b,c'd.jpg", "a b,c'd.jpg"),
        (".hidden.jpg", ".hidden.jpg"),
        (NFD, NFC),
        ("", ""),
    ],
)
def test_the_form_of_a_name(name: str, form: str) -> None:
    assert same_form(name) == form


@given(st.text("aé\u0301/.\\ %2", max_size=12))
def test_a_form_is_its_own_form(name: str) -> None:
    assert same_form(same_form(name)) == same_form(name)
    assert same_form(unicodedata.normalize("NFD", name)) == same_form(unicodedata.normalize("NFC", name))


def test_percent_signs() -> None:
    assert plain_form("a%20b%C3%A9.jpg") == "a bé.jpg"
    assert plain_form("100%.jpg") == "100%.jpg"
    assert plain_form("a%E9.jpg") == "a%E9.jpg"  # Latin-1, no UTF-8


def test_each_way_of_writing_is_found_once(caplog: pytest.LogCaptureFixture) -> None:
    names = Names(["a b.jpg", NFD, "x/IMG_1.JPG", "100%25.jpg"])
    sought = ["./a b.jpg", NFC, "x\\img_1.jpg", "100%25.jpg", "a%20b.png", "other.jpg"]
    with caplog.at_level(logging.WARNING, "dejavlad"):
        assert names.match(sought) == [0, 1, 2, 3, None, None]
    assert [record.getMessage() for record in caplog.records] == [
        "1 names were found in other letter case, e.g. 'x\\\\img_1.jpg' is 'x/IMG_1.JPG'"
    ]
    assert [names.find(name) for name in sought] == [0, 1, 2, 3, None, None]
    assert names.find("x/img_1.jpg", loosely=False) is None
    assert names.match(["a%20b.jpg"]) == [0]


def test_what_may_be_two_is_none() -> None:
    assert Names(["a.jpg", "A.jpg"]).match(["a.jpg", "A.jpg", "A.JPG"]) == [0, 1, None]
    assert Names(["b.JPG", "B.jpg"]).find("b.jpg") is None
    # two photos that differ in their Unicode form alone, and one entry: it is that of the very same name
    assert Names([NFC]).match([NFD, NFC]) == [None, 0]
    assert Names([NFC, NFD]).match([NFD, NFC]) == [1, 0]
    assert Names(["a.jpg"]).match(["./a.jpg", "x/../a.jpg"]) == [None, None]


def test_a_name_sought_twice_is_found_twice() -> None:
    assert Names(["v.mp4", "w.mp4"]).match(["./w.mp4", "./w.mp4"]) == [1, 1]
