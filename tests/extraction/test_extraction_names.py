"""Stores whose keys are in another Unicode form than the photos' names are now."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from dejavlad.extraction import DescriptorStore, PhotoTable, extract
from dejavlad.images import Preprocess
from dejavlad.photo import Photo, PhotoList

PLAIN = Preprocess(resize="none", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale="0-1", channels="rgb")


class Counting:
    """A model that counts the photos that it describes."""

    preprocess = PLAIN
    precision = "fp32"
    name = "counting"
    fingerprint = "c" * 64
    descriptor_size = 3
    photos = 0

    def require_fitted(self) -> None:
        pass

    def describe(self, images: torch.Tensor) -> torch.Tensor:
        self.photos += len(images)
        return images.mean(dim=(2, 3))


def in_form(photos: PhotoList, form: str) -> PhotoList:
    return PhotoList(
        (replace(photo, name=unicodedata.normalize(form, photo.name)) for photo in photos), root=photos.root
    )


def a_list(root: Path) -> PhotoList:
    """Three photos with accents, the last of them unreadable."""
    photos = []
    for i in range(3):
        path = root / f"{i}.png"
        cv2.imwrite(str(path), np.full((8, 8, 3), 40 * (i + 1), np.uint8))
        photos.append(Photo(f"é{i}.png", path))
    (root / "2.png").write_bytes(b"no photo")
    return PhotoList(photos, root=root)


def test_a_store_goes_on_in_the_other_form(tmp_path: Path) -> None:
    photos = a_list(tmp_path)
    model = Counting()
    old = extract(model, in_form(photos, "NFD"), tmp_path / "store")
    rows = old.rows.tobytes()
    assert model.photos == 2 and list(old.failed) == [unicodedata.normalize("NFD", "é2.png")]
    again = extract(model, in_form(photos, "NFC"), tmp_path / "store")
    assert model.photos == 2  # none described anew
    assert again.rows.tobytes() == rows
    assert again.keys == in_form(photos, "NFC").keys and list(again.failed) == ["é2.png"]
    assert DescriptorStore.open(tmp_path / "store").complete


def test_another_order_and_another_form(tmp_path: Path) -> None:
    photos = a_list(tmp_path)
    model = Counting()
    old = extract(model, in_form(photos, "NFD"), tmp_path / "store", batch_size=1)
    first = old.rows[0].tolist()
    del old
    again = extract(model, in_form(photos, "NFC").take([2, 1, 0]), tmp_path / "store", batch_size=1)
    assert model.photos == 2 and again.rows[2].tolist() == first and list(again.failed) == ["é2.png"]


def test_letter_case_is_no_identity(tmp_path: Path) -> None:
    photos = PhotoList([Photo("a.png", a_list(tmp_path)[0].path)], root=tmp_path)
    upper = PhotoList([replace(photos[0], name="A.png")], root=tmp_path)
    tables = [PhotoTable.look(listing, lambda _: (8, 8)) for listing in (photos, upper)]
    assert tables[1].rows_in(tables[0]).tolist() == [-1]
