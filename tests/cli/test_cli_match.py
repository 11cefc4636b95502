"""`dejavlad match`: two photos, and the frames of a video against a reference."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dejavlad.cli import main
from dejavlad.model import (
    PatchSetting,
    save_model,
)
from dejavlad.places.live import Frames
from dejavlad.places.pair import learnt_from
from dejavlad.zoo import load_model

Run = Callable[..., tuple[int, str, str]]
View = Callable[..., NDArray[np.uint8]]
Words = tuple[str, ...]

MODEL = ("--model", "squeezenet1_0-netvlad", "--weights", "random:1", "--resize", "none", "--device", "cpu")
FAST = (*MODEL, "--sizes", "2,4")
PLACES = (1, 1, 1, 2, 2, 1)
"""What the frames of the video show."""


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main(["match", *(str(word) for word in words)])
        out, err = capfd.readouterr()
        return status, out, err

    return call


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory, make_view: View) -> Words:
    """A fitted model in a folder, as a user keeps one."""
    setting = PatchSetting((2, 4), dims=64)
    base = load_model(MODEL[1], weights=MODEL[3], resize="none", device="cpu")
    folder = tmp_path_factory.mktemp("model") / "m"
    save_model(learnt_from(base, [make_view(1), make_view(2)], setting), folder)
    return "--model", str(folder), "--device", "cpu", "--sizes", "2,4", "--known-from", "0.4"


@pytest.fixture
def pair(tmp_path: Path, make_view: View, make_photo: Callable[..., Path]) -> tuple[Path, Path]:
    return (
        make_photo(tmp_path / "a.png", make_view(1)),
        make_photo(tmp_path / "b <i>.png", make_view(1, 4, height=120, width=100)),
    )


@pytest.fixture
def video(tmp_path: Path, make_view: View) -> Path:
    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (128, 96))
    for i, place in enumerate(PLACES):
        writer.write(np.ascontiguousarray(make_view(place, i % 3)[:, :, ::-1]))
    writer.release()
    return path


def with_a_bad_frame(video: Path, number: int) -> Path:
    data = bytearray(video.read_bytes())
    starts = [i for i in range(len(data)) if data[i : i + 4] == b"00dc"][: len(PLACES)]
    first = starts[number] + 8
    data[first : first + 700] = bytes(700)
    bad = video.with_name("bad.avi")
    bad.write_bytes(data)
    return bad


@pytest.mark.slow
def test_a_photo_and_itself(run: Run, pair: tuple[Path, Path]) -> None:
    status, out, err = run(pair[0], pair[0], *MODEL)
    assert status == 0, err
    assert out.startswith("score 1.00000  (larger is a better match")
    assert "8x8 cells" in out
    assert "--model MAP" in err


@pytest.mark.slow
def test_json_and_a_figure(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    figure = tmp_path / "figures" / "f.png"
    status, out, err = run(*pair, *FAST, "--figure", figure, "--json", "--quiet")
    assert status == 0, err
    assert err == ""
    output = json.loads(out)
    assert 0 <= output["score"] < 1
    assert [row["size"] for row in output["sizes"]] == [2, 4]
    weighted = sum(row["score"] / 2 for row in output["sizes"])
    assert output["score"] == pytest.approx(weighted)
    assert output["figure"] == str(figure)
    with Image.open(figure) as image:
        assert image.width == 1600


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["auto", "sift"])
def test_points_tell_whether_it_is_the_same_place(
    run: Run, tmp_path: Path, make_view: View, make_photo: Callable[..., Path], kind: str
) -> None:
    a, b = (make_photo(tmp_path / f"{shift}.png", make_view(1, shift, 192, 256)) for shift in (0, 6))
    clouds = np.random.default_rng(0).integers(0, 256, (19, 27, 3), dtype=np.uint8)
    other = make_photo(tmp_path / "c.png", cv2.resize(clouds, (256, 192), interpolation=cv2.INTER_CUBIC))
    figure = tmp_path / "figures" / "f.png"
    status, out, err = run(a, b, "--matcher", kind, "--figure", figure, "--json", "--quiet")
    assert status == 0, err
    answer = json.loads(out)
    assert answer["same_place"] and answer["confidence"] > 0.9
    assert 50 < answer["inliers"] <= answer["tried"] <= min(answer["points"])
    assert answer["figure"] == str(figure)
    with Image.open(figure) as image:
        assert image.width == 1600 and len(set(image.convert("L").tobytes())) > 50
    status, out, err = run(a, other, "--matcher", kind)
    assert status == 0 and out.startswith("not the same place"), out
    black = make_photo(tmp_path / "black.png", np.zeros((96, 128, 3), np.uint8))
    status, out, err = run(a, black, "--matcher", kind)
    assert status == 0 and out.startswith("not the same place") and "shows nothing" in err


@pytest.mark.slow
def test_options_reach_the_matcher(run: Run, pair: tuple[Path, Path]) -> None:
    rapid = ("--matcher", "rapid", "--size-weights", "0,1", "--strides", "2,1")
    status, out, err = run(pair[0], pair[0], *FAST, *rapid, "--json", "--quiet")
    assert status == 0, err
    output = json.loads(out)
    assert output["agreement"] == pytest.approx(1)
    assert output["score"] == pytest.approx(output["sizes"][1]["score"])
    assert output["score"] > 10
    assert output["sizes"][0]["patches"] < output["sizes"][1]["patches"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give two photos, or --camera, or --video FILE"),
        (("a.png",), "give two photos"),
        (("a.png", "b.png", "--video", "v.avi"), "only one of these"),
        (("--camera", "--video", "v.avi"), "only one of these"),
        (("a.png", "b.png", "--out", "o.mp4"), "--figure"),
        (("a.png", "b.png", "--figure", "f.gif"), ".png"),
        (("a.png", "b.png", "--sizes", "0"), "--sizes"),
        (("a.png", "b.png", "--strides", "1"), "one stride for each size"),
        (("a.png", "b.png", "--size-weights", "a"), "--size-weights"),
        (("a.png", "b.png", "--size-weights", "1,2"), "finite weights"),
        (("a.png", "gone.png", *MODEL), "gone.png"),
        (("a.png", "b.png", *MODEL, "--sizes", "40"), "no patch of 40x40"),
        (("a.png", "b.png", "--matcher", "sift", "--model", "rootsift-vlad"), "are for patches"),
        (("a.png", "b.png", "--weights", "random:1"), "are for patches"),
        (("--video", "v.avi", "--matcher", "sift"), "compared by patches"),
        (("--video", "gone.avi"), "gone.avi"),
        (("--video", "."), "it is a folder"),
        (("--video", "v.avi", "--every", "0"), "--every 0"),
    ],
)
def test_failures_are_one_line(
    run: Run,
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    make_view: View,
    make_photo: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for place, name in enumerate(("a.png", "b.png")):
        make_photo(tmp_path / name, make_view(place))
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*words, "--quiet")
    assert (status, out) == (1, "")
    assert err.startswith("dejavlad: ") and message in err
    assert len(err.strip().splitlines()) == 1
    assert {path.suffix for path in tmp_path.iterdir()} == {".png"}


@pytest.mark.slow
def test_a_video_against_its_first_frame(run: Run, learnt: Words, video: Path, tmp_path: Path) -> None:
    out_path = tmp_path / "compared.avi"
    status, out, err = run("--video", video, *learnt, "--out", out_path, "--json", "--quiet")
    assert status == 0, err
    *frames, last = (json.loads(line) for line in out.splitlines())
    assert [frame["frame"] for frame in frames] == list(range(6))
    assert frames[0]["score"] == pytest.approx(1)
    assert [frame["known"] for frame in frames] == [place == 1 for place in PLACES]
    assert last["summary"]["frames"] == 6
    assert last["summary"]["known"] == 4
    assert last["summary"]["passed_over"] == 0
    capture = cv2.VideoCapture(str(out_path))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 6
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    capture.release()


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["3", "photo"])
def test_another_reference_and_every_other_frame(
    run: Run,
    learnt: Words,
    video: Path,
    tmp_path: Path,
    make_view: View,
    make_photo: Callable[..., Path],
    reference: str,
) -> None:
    if reference == "photo":
        reference = str(make_photo(tmp_path / "r.png", make_view(2)))
    status, out, err = run("--video", video, *learnt, "--reference", reference, "--every", "2")
    assert status == 0, err
    assert "3 frames compared" in out and "1 show its place" in out
    lines = [line for line in err.splitlines() if line.startswith("frame ")]
    assert [line.split(":")[0] for line in lines] == ["frame 0", "frame 2", "frame 4"]
    assert ["unknown" in line for line in lines] == [True, True, False]


@pytest.mark.slow
def test_a_frame_that_cannot_be_decoded_is_passed_over(run: Run, learnt: Words, video: Path) -> None:
    status, out, err = run("--video", with_a_bad_frame(video, 2), *learnt)
    assert status == 0, err
    assert "5 frames compared" in out and "1 could not be read" in out


def test_a_video_that_is_cut_short_ends(video: Path) -> None:
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 2])
    with Frames(video) as frames:
        read = list(frames)
    assert 1 <= len(read) < 6
    assert frames.failed >= 1


@pytest.mark.slow
def test_ctrl_c_ends_with_a_summary(
    run: Run, learnt: Words, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dejavlad.places.live as live

    whole = live.Live.compare

    def interrupted(self: live.Live, frame: object) -> object:
        if self.compared == 2:
            raise KeyboardInterrupt
        return whole(self, frame)  # type: ignore[arg-type]

    monkeypatch.setattr(live.Live, "compare", interrupted)
    out_path = tmp_path / "o.avi"
    status, out, err = run("--video", video, *learnt, "--out", out_path)
    assert status == 0, err
    assert "2 frames compared" in out
    assert out_path.is_file()


def test_a_camera_that_is_not_there(run: Run, learnt: Words) -> None:
    status, out, err = run("--camera", "99", *learnt, "--quiet")
    assert (status, out) == (1, "")
    assert "camera 99" in err
    status, _, err = run("--camera", "1", "2", *learnt)
    assert status == 1
    assert "one camera" in err
