"""Oxford, Paris, their revisited truth, Holidays and KITTI, on small folders in the published layouts."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dejavlad.datasets import open_dataset
from dejavlad.datasets.audit.report import check_dataset
from dejavlad.datasets.cards import PUBLISHED
from dejavlad.datasets.layouts.kitti import FRAMES
from dejavlad.datasets.layouts.oxford import BROKEN
from dejavlad.datasets.layouts.revisited import (
    RIGHT,
    read_revisited,
    revisited_truth,
)
from dejavlad.errors import InputError
from dejavlad.evaluation.average_precision import map_metrics
from dejavlad.extraction import DescriptorStore
from dejavlad.ground_truth import truth_text
from dejavlad.images import read_image
from dejavlad.pipelines.evaluation import rank
from dejavlad.pipelines.scoring import Scoring, score
from dejavlad.ranking import Ranking

SHARED = Path(__file__).parents[3] / "shared" / "data"


def photo(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.indices((size[1], size[0])).sum(axis=0).astype(np.uint8)
    Image.fromarray(pixels).convert("RGB").save(path)


@pytest.fixture
def oxford(tmp_path: Path) -> Path:
    root = tmp_path / "oxford"
    for name in ("all_souls_000013", "all_souls_000026", "radcliffe_1", "radcliffe_2", "oxford_3"):
        photo(root / "oxbuild_images" / f"{name}.jpg")
    truth = root / "gt_files_170407"
    truth.mkdir()
    for name, query, lists in (
        (
            "all_souls_1",
            "oxc1_all_souls_000013 4.5 3 20.4 25",
            (["all_souls_000013"], ["all_souls_000026"], ["oxford_3"]),
        ),
        ("radcliffe_1", "oxc1_radcliffe_2 -3 0.2 99 17", (["radcliffe_1"], [], [])),
    ):
        (truth / f"{name}_query.txt").write_text(query + "\n")
        for which, names in zip(("good", "ok", "junk"), lists, strict=True):
            (truth / f"{name}_{which}.txt").write_text("".join(f"{stem}\n" for stem in names))
    return root


def test_oxford(oxford: Path) -> None:
    places = open_dataset("oxford5k", root=oxford)
    stems = [photo.path.stem for photo in places.database]
    assert stems == ["all_souls_000013", "all_souls_000026", "oxford_3", "radcliffe_1", "radcliffe_2"]
    assert [q.path.stem for q in places.queries] == ["all_souls_000013", "radcliffe_2"]
    assert [q.crop for q in places.queries] == [(4, 2, 20, 25), (0, 0, 40, 17)]
    assert read_image(places.queries[0]).shape == (23, 16, 3)
    truth = places.truth
    assert truth is not None and [rows.tolist() for rows in truth.positives] == [[0, 1], [3]]
    assert truth.ignored is not None and [rows.tolist() for rows in truth.ignored] == [[2], []]
    assert truth.description["measure"] == "oxford"
    whole = open_dataset("oxford5k-whole", root=oxford)
    assert [q.crop for q in whole.queries] == [None, None]


def test_paris_leaves_out_what_cannot_be_read(oxford: Path) -> None:
    photo(oxford / "louvre" / "paris_louvre_000137.jpg")
    (oxford / "louvre" / "paris_louvre_000136.jpg").write_bytes(b"")
    places = open_dataset("paris6k", root=oxford)
    assert len(BROKEN) == 20 and len(places.database) == 6


def test_bad_oxford(oxford: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        open_dataset("oxford5k", root=oxford / "none")
    good = oxford / "gt_files_170407" / "all_souls_1_good.txt"
    good.write_text("all_souls_000013\nall_souls_999999\n")
    with pytest.raises(InputError, match=r"1 of 6 photos that the truth names are not in.*all_souls_999999"):
        open_dataset("oxford5k", root=oxford)
    good.unlink()
    with pytest.raises(InputError, match=r"all_souls_1_good.txt"):
        open_dataset("oxford5k", root=oxford)
    good.write_text("")
    query = oxford / "gt_files_170407" / "all_souls_1_query.txt"
    for text, message in (
        ("oxc1_all_souls_000013 1 2 3", "should read"),
        ("", "should read"),
        ("oxc1_all_souls_000013 1 2 nan 3", "finite"),
        ("oxc1_all_souls_000013 50 2 60 9", "outside"),
    ):
        query.write_text(text)
        with pytest.raises(InputError, match=message):
            open_dataset("oxford5k", root=oxford)
    query.write_text("oxc1_all_souls_000013 1 2 9 9")
    photo(oxford / "again" / "oxford_3.jpg")
    with pytest.raises(InputError, match="'oxford_3' twice"):
        open_dataset("oxford5k", root=oxford)
    for path in (oxford / "gt_files_170407").iterdir():
        path.unlink()
    (oxford / "again" / "oxford_3.jpg").unlink()
    with pytest.raises(InputError, match="holds no truth"):
        open_dataset("oxford5k", root=oxford)


@pytest.fixture
def revisited(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "roxford5k"
    names = ["b", "a", "d", "c"]
    for name in (*names, "q0", "q1"):
        photo(folder / "jpg" / f"{name}.jpg")
    lists = [
        {
            "bbx": [4.5, 3.2, 20.6, 50.0],
            "easy": np.array([0]),
            "hard": np.array([2, 3]),
            "junk": np.array([1]),
        },
        {
            "bbx": [0.0, 0.0, 9.0, 9.0],
            "easy": np.array([], np.int64),
            "hard": np.array([1]),
            "junk": np.array([], np.float64),
        },
    ]
    content = {"imlist": names, "qimlist": ["q0", "q1"], "gnd": lists}
    (folder / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(content, protocol=2))
    return tmp_path / "data"


@pytest.mark.parametrize("inside", [False, True])
def test_revisited(revisited: Path, inside: bool) -> None:
    root = revisited / "roxford5k" if inside else revisited
    right, out = {}, {}
    for how in RIGHT:
        places = open_dataset(f"roxford5k-{how}", root=root)
        assert [photo.path.stem for photo in places.database] == ["b", "a", "d", "c"]
        assert [photo.crop for photo in places.queries] == [(4, 3, 21, 30), (0, 0, 9, 9)]
        truth = places.truth
        assert truth is not None and truth.ignored is not None
        right[how] = [rows.tolist() for rows in truth.positives]
        out[how] = [rows.tolist() for rows in truth.ignored]
    assert right == {"easy": [[0], []], "medium": [[0, 2, 3], [1]], "hard": [[2, 3], [1]]}
    assert out == {"easy": [[1, 2, 3], [1]], "medium": [[1], []], "hard": [[0, 1], []]}


class Harm:
    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


def test_a_malicious_truth_is_refused(revisited: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(revisited)
    path = revisited / "roxford5k" / "gnd_roxford5k.pkl"
    content = pickle.loads(path.read_bytes())
    for protocol in range(5):
        path.write_bytes(pickle.dumps({**content, "gnd": [Harm()]}, protocol=protocol))
        with pytest.raises(InputError, match=r"gnd_roxford5k.pkl"):
            open_dataset("roxford5k-hard", root=revisited)
    assert not Path("harmed").exists()


def test_bad_revisited(revisited: Path) -> None:
    path = revisited / "roxford5k" / "gnd_roxford5k.pkl"
    good = pickle.loads(path.read_bytes())
    lists = good["gnd"]
    for content, message in (
        ({**good, "gnd": lists[:1]}, "2 queries, but truth for 1"),
        ({**good, "gnd": [lists[0], {**lists[1], "easy": np.array([4])}]}, "row 4 is outside"),
        ({**good, "gnd": [lists[0], {**lists[1], "easy": np.array([-1])}]}, "is no truth of revisited"),
        ({**good, "gnd": [lists[0], {**lists[1], "bbx": [1, 2]}]}, "is no truth of revisited"),
        ({"imlist": good["imlist"]}, "is no truth of revisited"),
        ([1, 2], "is no truth of revisited"),
        ({**good, "imlist": ["b", "a", "d", "gone"]}, "1 of 6 photos.*'gone'"),
    ):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(InputError, match=message):
            open_dataset("roxford5k-medium", root=revisited)
    path.unlink()
    with pytest.raises(InputError, match="there is no"):
        open_dataset("roxford5k-medium", root=revisited)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["roxford5k", "rparis6k"])
def test_published_truth(which: str) -> None:
    path = SHARED / "truth" / f"gnd_{which}.pkl"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    lists = read_revisited(path)
    published = {how: PUBLISHED[f"{which}-{how}"] for how in RIGHT}
    for counted in published.values():
        assert (len(lists["imlist"]), len(lists["qimlist"])) == (counted.database, counted.queries)
    assert not BROKEN & {*lists["imlist"], *lists["qimlist"]}
    counts = {how: int(revisited_truth(lists, how).positives.counts.sum()) for how in RIGHT}
    assert counts == {how: counted.positives for how, counted in published.items()}
    assert len({*lists["imlist"], *lists["qimlist"]}) == PUBLISHED[which[1:]].database
    assert revisited_truth(lists, "easy").n_without_truth == (2 if which == "roxford5k" else 0)
    for how in RIGHT:  # right ones first, then what does not count, is perfect
        truth = revisited_truth(lists, how)
        assert truth.ignored is not None
        order = [
            np.concatenate([right, out, np.setdiff1d(np.arange(truth.n_database), np.union1d(right, out))])
            for right, out in zip(truth.positives, truth.ignored, strict=True)
        ]
        figures = map_metrics(
            Ranking(np.array(order), np.tile(np.arange(truth.n_database), (70, 1))), truth, "revisited"
        )
        assert figures == {"mAP": 1.0, "mP@1": 1.0, "mP@5": 1.0, "mP@10": 1.0}


@pytest.mark.parametrize(("name", "part"), [("holidays", "jpg"), ("holidays-rotated", "jpg_rotated")])
def test_holidays(tmp_path: Path, name: str, part: str) -> None:
    for stem in ("100000", "100001", "100002", "100100", "100101", "149900", "149901"):
        photo(tmp_path / part / f"{stem}.jpg")
    places = open_dataset(name, root=tmp_path)
    assert [query.path.stem for query in places.queries] == ["100000", "100100", "149900"]
    truth = places.truth
    assert truth is not None and [rows.tolist() for rows in truth.positives] == [[1, 2], [4], [6]]
    assert truth.ignored is not None and [rows.tolist() for rows in truth.ignored] == [[0], [3], [5]]
    (tmp_path / part / "100100.jpg").unlink()
    with pytest.raises(InputError, match=r"1 groups.* lack their query, first 100100"):
        open_dataset(name, root=tmp_path)
    photo(tmp_path / part / "readme.png")
    with pytest.raises(InputError, match="six digits"):
        open_dataset(name, root=tmp_path)


def test_check_takes_queries_among_the_database_for_what_they_are(tmp_path: Path, revisited: Path) -> None:
    for i, stem in enumerate(("100000", "100001", "100100", "100101")):
        photo(tmp_path / "jpg" / f"{stem}.jpg", (20 + i, 20))
    report = check_dataset(open_dataset("holidays", root=tmp_path), published=PUBLISHED["holidays"])
    assert [finding.what for finding in report.findings] == ["counts"]
    assert "4 in place of 1,491 database" in report.findings[0].text
    report = check_dataset(open_dataset("roxford5k-hard", root=revisited))
    assert "unlisted" not in [finding.what for finding in report.findings]


def test_truth_in_words(oxford: Path, revisited: Path) -> None:
    for name, root, words in (
        (
            "oxford5k",
            oxford,
            "what the good and ok lists name, junk left out, queries being regions of photos",
        ),
        ("oxford5k-whole", oxford, "what the good and ok lists name, junk left out"),
        ("roxford5k-hard", revisited, "what is hard, the rest left out"),
    ):
        truth = open_dataset(name, root=root).truth
        assert truth is not None and truth_text(truth.description) == words


def test_rotated_holidays_are_not_the_others(tmp_path: Path) -> None:
    photo(tmp_path / "jpg" / "100000.jpg")
    with pytest.raises(InputError, match="jpg_rotated"):
        open_dataset("holidays-rotated", root=tmp_path)


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    n = 600
    for i in range(n):
        path = tmp_path / "sequences" / "07" / "image_2" / f"{i:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    angle = np.linspace(0, 4 * np.pi, n, endpoint=False)  # two rounds of 300 frames
    rows = np.tile(np.eye(3, 4).ravel(), (n, 1))
    rows[:, 3], rows[:, 7], rows[:, 11] = 300 * np.cos(angle), 1e3, 300 * np.sin(angle)
    (tmp_path / "poses").mkdir()
    np.savetxt(tmp_path / "poses" / "07.txt", rows)
    np.savetxt(tmp_path / "sequences" / "07" / "times.txt", np.arange(n) / 10)
    return tmp_path


def test_kitti(kitti: Path) -> None:
    places = open_dataset("kitti-07", root=kitti)
    assert len(places.database) == len(places.queries) == 600
    at = places.database[150].position
    assert at is not None and (at.east, at.north) == pytest.approx((-300, 0), abs=1e-6)
    assert places.database[11].time == pytest.approx(1.1)
    truth = places.truth
    assert (
        truth is not None and truth.positives[0].tolist() == [300] and truth.positives[310].tolist() == [10]
    )
    assert truth.ignored is not None and truth.ignored[300].tolist() == list(range(50, 551))
    assert sum(FRAMES.values()) == 23201


def test_bad_kitti(kitti: Path) -> None:
    with pytest.raises(InputError, match="image_2"):
        open_dataset("kitti-00", root=kitti)
    times = kitti / "sequences" / "07" / "times.txt"
    times.write_text("0.1\n")
    with pytest.raises(InputError, match=r"1 times, .* 600 frames"):
        open_dataset("kitti-07", root=kitti)
    times.unlink()
    poses = kitti / "poses" / "07.txt"
    lines = poses.read_text().splitlines(keepends=True)
    poses.write_text("".join(lines[:-1]))
    with pytest.raises(InputError, match=r"599 poses.* 600 photos"):
        open_dataset("kitti-07", root=kitti)
    poses.write_text("".join([*lines[:-1], lines[-1].replace(lines[-1].split()[3], "nan", 1)]))
    with pytest.raises(InputError, match="line 600: a pose is of finite numbers"):
        open_dataset("kitti-07", root=kitti)
    poses.unlink()
    with pytest.raises(InputError, match=r"there is no .*07.txt"):
        open_dataset("kitti-07", root=kitti)
    (kitti / "sequences" / "07").rename(kitti / "sequences" / "12")
    assert open_dataset("kitti-12", root=kitti).truth is None


def test_what_is_measured_by_map_is_ranked_whole_and_says_so(tmp_path: Path) -> None:
    for stem in (f"{group:04d}{i:02d}" for group in range(1000, 1040) for i in range(4)):
        path = tmp_path / "jpg" / f"{stem}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    places = open_dataset("holidays", root=tmp_path)
    random = np.random.default_rng(0)
    rows = np.repeat(random.normal(size=(40, 16)), 4, axis=0) + random.normal(size=(160, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    database = DescriptorStore.from_arrays(rows, places.database)
    queries = DescriptorStore.from_arrays(rows[::4], places.queries)
    ranking = rank(database, queries, Scoring(k=20), places.truth)
    result = score(ranking, places, tmp_path / "out", Scoring(k=20))
    assert result is not None
    far = np.linalg.norm(rows[::4, None] - rows, axis=2)
    precisions = []
    for i, order in enumerate(np.argsort(far, axis=1)):
        kept = [row for row in order.tolist() if row != 4 * i]
        ranks = sorted(kept.index(4 * i + j) + 1 for j in (1, 2, 3))
        halves = [((h / (r - 1) if r > 1 else 1) + (h + 1) / r) / 2 for h, r in enumerate(ranks)]
        precisions.append(sum(halves) / 3)
    assert result.metrics == {"mAP": pytest.approx(np.mean(precisions), abs=1e-9)}
    assert 0.3 < result.metrics["mAP"] < 0.99
    assert f"mAP {result.metrics['mAP']:.4f}" in str(result)
    assert len((tmp_path / "out" / "predictions.txt").read_text().splitlines()) <= 2 + 40 * 20
    with pytest.raises(InputError, match="-k 160"):
        score(ranking.top(20), places, tmp_path / "out", Scoring(k=20))
