import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dejavlad.client import Answer, Client, ServiceError, _form
from dejavlad.images import Preprocess
from dejavlad.places import PlaceMap
from dejavlad.serve.decode_check import Checked
from dejavlad.serve.service import check_size, unread_refusal
from dejavlad.serve.uploads import Upload

from .conftest import LAT, LON, Running, Town


def stripes() -> np.ndarray:
    """A photo that shows something, but no place."""
    colours = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(colours, (128, 96), interpolation=cv2.INTER_CUBIC)


def same(answer: Answer, direct: dict) -> bool:
    """Whether an answer is that of `PlaceMap.locate`, but for rounding within batches and for paths."""
    served = [(m["name"], m["inliers"]) for m in answer["matches"]]
    wanted = [(m["name"], m["inliers"]) for m in direct["matches"]]
    scores = [m["score"] for m in answer["matches"]]
    return (
        served == wanted
        and np.allclose(scores, [m["score"] for m in direct["matches"]], atol=1e-5)
        and all(
            answer[key] == direct[key]
            for key in ("known", "failed", "blank", "reason", "position", "uncertainty_m")
        )
        and abs(answer["confidence"] - direct["confidence"]) < 1e-5
    )


@pytest.fixture(scope="module")
def direct(town: Town) -> list[dict]:
    """What the library says of all queries."""
    queries = [town.query(place) for place in range(12)]
    return [answer.to_dict() for answer in PlaceMap.open(town.map).locate(queries, k=3)]


@pytest.mark.slow
def test_answers_are_those_of_the_library(running: Running, town: Town, direct: list[dict]) -> None:
    answers = running.client.locate([town.query(place) for place in range(12)], k=3)
    assert [answer["name"] for answer in answers] == [f"{place:02d}.jpg" for place in range(12)]
    for answer, wanted in zip(answers, direct, strict=True):
        assert same(answer, wanted)
        assert answer["known"] and answer["map"] == "town"
        assert "path" not in json.dumps(answer) and str(town.folder) not in json.dumps(answer)
        assert answer["matches"][0]["image"].startswith("/v1/maps/town/photos/")


@pytest.mark.slow
def test_many_clients_get_their_own_answers(running: Running, town: Town, direct: list[dict]) -> None:
    start = threading.Barrier(8)

    def ask(number: int) -> list[bool]:
        client = Client(running.address)
        start.wait()
        outcomes = []
        for step in range(4):
            place = (5 * number + 3 * step) % 12
            (answer,) = client.locate([town.query(place)], k=3)
            outcomes.append(same(answer, direct[place]))
        client.close()
        return outcomes

    with ThreadPoolExecutor(8) as pool:
        assert all(all(outcomes) for outcomes in pool.map(ask, range(8)))
    sizes = {
        sample.labels["le"]: sample.value
        for metric in running.service.metrics.batch.collect()
        for sample in metric.samples
        if sample.name.endswith("_bucket")
    }
    assert sizes["1.0"] < sizes["+Inf"]  # some were described together


@pytest.mark.slow
def test_a_photo_of_nowhere_a_blank_one_and_a_broken_one(
    running: Running, tmp_path: Path, town: Town
) -> None:
    nowhere, blank, broken = (tmp_path / name for name in ("nowhere.png", "blank.png", "broken.jpg"))
    nowhere.write_bytes(cv2.imencode(".png", stripes())[1].tobytes())
    blank.write_bytes(cv2.imencode(".png", np.zeros((96, 128, 3), np.uint8))[1].tobytes())
    broken.write_bytes(town.query(0).read_bytes()[:900])
    answers = running.client.locate([nowhere, blank, broken, town.query(4)])
    assert not answers[0]["known"] and answers[0]["matches"] and answers[0]["failed"] is None
    assert answers[0]["position"] is None
    assert answers[1]["blank"] and not answers[1]["known"] and not answers[1]["matches"]
    assert answers[2]["failed"] == "it is cut short" and not answers[2]["blank"]
    assert answers[3]["known"] and answers[3]["matches"][0]["name"] == "04.jpg"


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 400, "at least one photo"),
        (b"no photo at all", 415, "it is no image"),
        (cv2.imencode(".png", stripes())[1].tobytes()[:300], 422, "cannot read photo"),
    ],
)
def test_what_is_no_photo_is_refused(running: Running, content: bytes, status: int, words: str) -> None:
    with pytest.raises(ServiceError, match=words) as caught:
        running.client._send("POST", "/v1/locate", None, content, "image/jpeg")
    assert caught.value.status == status


def test_a_photo_of_too_many_pixels_is_refused_before_it_is_decoded(running: Running) -> None:
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    with pytest.raises(
        ServiceError, match=r"10000x10000 pixels, more than the limit of 64,000,000$"
    ) as caught:
        running.client.locate([file.getvalue()])
    assert caught.value.status == 413


def test_a_photo_that_is_too_large_for_the_model_is_refused() -> None:
    ratio = Checked(1, 60_000)
    small, large = Preprocess(resize="longest:480"), Preprocess(resize="shortest:480")
    assert check_size(Checked(3000, 4000), small, 4_000_000).reason is None
    assert check_size(Checked(3000, 4000), large, 4_000_000).reason is None
    refused = check_size(ratio, large, 4_000_000)
    assert refused.reason and "more than the limit of 4,000,000" in refused.reason
    assert unread_refusal([refused], [Upload("a.jpg", b"x")]).status == 413
    assert check_size(Checked(reason="no"), large, 1).reason == "no"


def test_stripes_of_one_pixel_are_answered(running: Running) -> None:
    for shape in ((1, 3000), (3000, 1), (2, 900), (1, 1)):
        stripe = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        try:
            (answer,) = running.client.locate([cv2.imencode(".png", stripe)[1].tobytes()])
        except ServiceError as error:
            assert error.status == 422
            continue
        assert not answer["known"]


def test_options_are_checked(running: Running, town: Town) -> None:
    for options, words in (
        ({"k": 0}, "whole number of 1 to 100"),
        ({"k": 101}, "whole number of 1 to 100"),
        ({"k": "5; drop"}, "whole number"),
        ({"verify": "orb"}, "unknown kind of local features 'orb'"),
        ({"colour": "red"}, "unknown option 'colour'"),
    ):
        with pytest.raises(ServiceError, match=words) as caught:
            running.client._post("/v1/locate", [town.query(0)], options)
        assert caught.value.status == 400
    with pytest.raises(ServiceError, match="no map 'village'") as caught:
        running.client.locate([town.query(0)], map="village")
    assert caught.value.status == 404


def test_filters_are_those_of_the_library(running: Running, town: Town) -> None:
    near = f"{LAT + 0.003},{LON + 0.003},60"
    (answer,) = running.client.locate([town.query(3)], near=near)
    assert [match["name"] for match in answer["matches"]] == ["03.jpg"]
    for option, words in (({"near": "nowhere"}, "LAT,LON,METRES"), ({"after": "soon"}, "give a time")):
        with pytest.raises(ServiceError, match=words) as caught:
            running.client.locate([town.query(3)], **option)
        assert caught.value.status == 400


def test_verify_none_is_what_the_library_says_without(running: Running, town: Town) -> None:
    (answer,) = running.client.locate([town.query(2)], k=2, verify="none")
    (direct,) = PlaceMap.open(town.map).locate([town.query(2)], k=2, verify="none")
    assert same(answer, direct.to_dict())
    assert answer["matches"][0]["inliers"] is None


def test_descriptors_are_the_models(running: Running, town: Town) -> None:
    photos = [town.query(1), town.query(2)]
    wanted = PlaceMap.open(town.map).model.encode(photos)
    served = running.client.describe(photos)
    assert np.allclose([row["descriptor"] for row in served], wanted, atol=1e-6)
    with Client(running.address) as client:
        client._headers["Accept"] = "application/octet-stream"
        rows = np.load(io.BytesIO(client._send("POST", "/v1/describe", {}, *_form(photos))))
    assert rows.dtype == np.float32 and np.allclose(rows, wanted, atol=1e-6)


@pytest.mark.slow
def test_two_photos_are_matched_with_points_in_pixels(running: Running, town: Town) -> None:
    pair = running.client.match(town.photo(3), town.query(3))
    assert pair["same_place"] and pair["inliers"] == len(pair["pairs"]) > 20
    assert pair["sizes"] == [[96, 128], [96, 128]]
    across = np.array(pair["pairs"])
    assert np.median(across[:, 0] - across[:, 2]) == pytest.approx(5, abs=0.7)  # it is seen 5 pixels aside
    other = running.client.match(town.photo(3), cv2.imencode(".png", stripes())[1].tobytes())
    assert not other["same_place"]


def test_a_photo_is_matched_with_one_of_the_map(running: Running, town: Town) -> None:
    photos = {photo["name"]: photo["id"] for photo in running.client.photos("town")}
    pair = running.client.match(town.query(6), map="town", photo=photos["06.jpg"])
    assert pair["same_place"] and pair["candidate"] == "06.jpg" and pair["query"] == "06.jpg"
    (answer,) = running.client.locate([town.query(6)])  # auto compares as answers of that map are verified
    assert pair["features"] == "sift"
    assert pair["inliers"] == pytest.approx(answer["matches"][0]["inliers"], rel=0.2)
    with pytest.raises(ServiceError) as caught:
        running.client.match(town.query(6), map="town", photo="bm8")
    assert caught.value.status == 404
    with pytest.raises(ServiceError, match="takes two photos") as caught:
        running.client.match(town.query(6))
    assert caught.value.status == 400


def test_a_position_is_written_into_a_copy(running: Running, town: Town, tmp_path: Path) -> None:
    from dejavlad.geo import latlon
    from dejavlad.positions.exif import read_exif

    copy = tmp_path / "placed.jpg"
    copy.write_bytes(running.client.with_position(town.query(0), 48.25, -11.75, uncertainty_m=12))
    position = read_exif(copy).position
    assert position is not None and latlon(position) == pytest.approx((48.25, -11.75), abs=1e-7)
    with pytest.raises(ServiceError) as caught:
        running.client.with_position(b"GIF89a", 1, 2)
    assert caught.value.status == 415
