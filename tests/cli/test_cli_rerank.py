"""`evaluate --rerank`, `extract --patches` and `rerank`, as users call them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dejavlad.cli import main
from dejavlad.evaluation import Result
from dejavlad.extraction.patches import PatchStore
from dejavlad.ranking import Ranking
from made_photos import write_street

MODEL = ("squeezenet1_1-netvlad", "--weights", "random:0", "--dims", "8", "--resize", "160x208")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `results` by the preset `mine.toml`."""
    folder = tmp_path_factory.mktemp("evaluated")
    street = write_street(folder / "street")
    words = ["evaluate", *MODEL, "--dataset", str(street), "--truth", "frames:0", "--recall-at", "1,5"]
    mine = folder / "mine.toml"
    mine.write_text(
        'matcher = "ransac"\nsizes = [2, 4]\nweights = [0.75, 0.25]\npatch_dtype = "int8"\ndepth = 6\n'
    )
    assert main([*words, "--preset", str(mine), "--out", str(folder / "results"), "--quiet"]) == 0
    return folder


@pytest.fixture
def results(evaluated: Path, tmp_path: Path) -> Path:
    """A copy of the results, and of the preset beside them."""
    shutil.copy(evaluated / "mine.toml", tmp_path)
    return Path(shutil.copytree(evaluated / "results", tmp_path / "results"))


@pytest.mark.slow
def test_evaluate_writes_what_the_original_writes(results: Path) -> None:
    result = Result.load(results)
    assert result.rerank == "ransac (mine: patches 2, 4, first 6)"
    assert result.reranking is not None and result.reranking["preset"]["weights"] == [0.75, 0.25]
    curve = result.reranking["curve"]
    assert [point["queries"] for point in curve] == [0, 1, 2, 4, 5, 6, 7, 8, 10, 11, 12]
    assert curve[0]["recall"] == result.reranking["recall_before"] and curve[0]["ms_per_query"] == 0
    assert curve[-1]["recall"] == {str(n): value for n, value in result.recall.items()}
    lines = (results / "recalls.txt").read_text().splitlines()
    before = result.reranking["recall_before"]
    assert lines == [
        *(f"Recall NetVLAD@{n}: {before[n]:.4f}" for n in ("1", "5")),
        *(f"Recall PatchNetVLAD@{n}: {result.recall[n]:.4f}" for n in (1, 5)),
    ]
    ranking, first = Ranking.load(results / "ranking.npz"), Ranking.load(results / "first_ranking.npz")
    np.testing.assert_array_equal(np.sort(ranking.indices[:, :6]), np.sort(first.indices[:, :6]))
    np.testing.assert_array_equal(ranking.indices[:, 6:], first.indices[:, 6:])
    for name, of in (("NetVLAD", first), ("PatchNetVLAD", ranking)):
        predictions = (results / f"{name}_predictions.txt").read_text().splitlines()
        assert predictions[:3] == [
            "# kapture format: 1.0",
            "# query_image, map_image",
            f"00.png, {of.indices[0, 0]:02d}.png",
        ]
        assert len(predictions) == 2 + ranking.indices.size
    stored = [PatchStore.open(results / part).manifest.dtype for part in ("database", "queries")]
    assert stored == ["int8", "float16"]  # only a map's patches are packed


@pytest.mark.slow
def test_a_store_with_patches_is_re_ranked_alone(
    results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--database", str(results / "database"), "--queries", str(results / "queries")]
    out = tmp_path / "again.npz"
    mine = str(tmp_path / "mine.toml")
    first = str(results / "first_ranking.npz")
    assert main(["rerank", first, *words, "--preset", mine, "--out", str(out), "--json"]) == 0
    output = json.loads(capfd.readouterr().out)
    assert output["queries"] == 12 and output["preset"]["name"] == "mine"
    again, expected = Ranking.load(out), Ranking.load(results / "ranking.npz")
    np.testing.assert_array_equal(again.indices, expected.indices)
    np.testing.assert_array_equal(again.distances, expected.distances)
    assert not list(tmp_path.glob("*.partial*"))
    np.save(tmp_path / "predictions.npy", Ranking.load(first).indices)
    words_npy = ["rerank", str(tmp_path / "predictions.npy"), *words, "--preset", mine]
    assert main([*words_npy, "--out", str(tmp_path / "npy.npz"), "--quiet"]) == 0
    np.testing.assert_array_equal(Ranking.load(tmp_path / "npy.npz").indices, expected.indices)
    evaluated = [
        "evaluate",
        *words,
        "--truth",
        "frames:0",
        "--recall-at",
        "1,5",
        "--out",
        str(tmp_path / "r"),
    ]
    assert main([*evaluated, "--preset", mine, "--quiet"]) == 0
    np.testing.assert_array_equal(Ranking.load(tmp_path / "r" / "ranking.npz").indices, expected.indices)


@pytest.mark.slow
def test_the_page_shows_what_re_ranking_brought(results: Path) -> None:
    page = (results / "index.html").read_text("utf-8")
    assert 'id="reranking"' in page and 'id="matches"' in page
    assert "ransac (mine: patches 2, 4, first 6): 12 queries of 12" in page
    assert page.count('<svg class="pairing"') >= 6 and "score -" in page


@pytest.mark.slow
def test_locate_tells_the_best_match_first(
    street: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first photos compared are the same, in another order; how sure the map is does not change."""
    words = ["squeezenet1_1-netvlad", "--weights", "random:0", "--resize", "160x208", "--dims", "8"]
    town = str(tmp_path / "town.map")
    assert main(["map", "build", *words, str(street / "database"), "--out", town, "--quiet"]) == 0
    command = [
        "locate",
        town,
        *(str(street / "queries" / f"{i:02d}.png") for i in (1, 4, 7)),
        "-k",
        "4",
        "--verify",
        "none",
        "--json",
    ]
    answers = []
    for more in ([], ["--rerank", "ransac", "--depth", "4", "--out", str(tmp_path / "page")]):
        assert main([*command, *more]) == 0
        answers.append(json.loads(capfd.readouterr().out))
    for before, after, right in zip(*answers, ("01.png", "04.png", "07.png"), strict=True):
        names = [[match["name"] for match in answer["matches"]] for answer in (before, after)]
        assert sorted(names[0]) == sorted(names[1]) and names[1][0] == right
        assert before["confidence"] == after["confidence"]
    page = (tmp_path / "page" / "index.html").read_text("utf-8")
    assert page.count('<svg class="pairing"') == 3


@pytest.mark.slow
def test_none_stored_gives_the_same_order(results: Path, street: Path, tmp_path: Path) -> None:
    words = ["evaluate", str(results / "model"), "--dataset", str(street), "--truth", "frames:0"]
    preset = ["--preset", str(tmp_path / "mine.toml"), "--patch-dtype", "none"]
    assert main([*words, *preset, "--out", str(tmp_path / "fresh"), "--quiet"]) == 0
    assert not (tmp_path / "fresh" / "database" / "patches").exists()
    a, b = Ranking.load(tmp_path / "fresh" / "ranking.npz"), Ranking.load(results / "ranking.npz")
    np.testing.assert_array_equal(a.indices[:, 0], b.indices[:, 0])


@pytest.mark.slow
def test_the_originals_files(tmp_path: Path) -> None:
    """Cells of VGG-16, as the original's: what is written so is re-ranked as the store is."""
    street = write_street(tmp_path / "street", 5)
    model = ("vgg16-netvlad", "--weights", "random:0", "--dims", "4", "--resize", "96x128")
    words = [
        "evaluate",
        *model,
        "--dataset",
        str(street),
        "--truth",
        "frames:0",
        "--out",
        str(tmp_path / "r"),
    ]
    assert main([*words, "--recall-at", "1", "--preset", "speed", "--patch-dtype", "float32", "--quiet"]) == 0
    lists: dict[str, list[str]] = {"": [], ".feats": ["--resize", "96x128"]}
    for part in ("database", "queries"):
        store = ["extract", str(tmp_path / "r" / "model"), str(street / part), "--out", str(tmp_path / part)]
        feats = tmp_path / f"{part}.feats"
        preset = ["--preset", "speed", "--patch-dtype", "float32"]
        assert main([*store, *preset, "--patches", "--patchfeats", str(feats), "--quiet"]) == 0
        for ending, more in lists.items():
            more += [f"--{part}", str(tmp_path / (part + ending))]
    assert np.load(tmp_path / "database.feats" / "patchfeats_psize5_03.npy").shape == (4, 2 * 4)
    rankings = []
    for ending, more in lists.items():
        words = ["rerank", str(tmp_path / "r" / "first_ranking.npz"), "--rerank", "rapid", *more]
        assert main([*words, "--out", str(tmp_path / f"out{ending}.npz"), "--quiet"]) == 0
        rankings.append(Ranking.load(tmp_path / f"out{ending}.npz"))
    np.testing.assert_array_equal(rankings[0].indices, rankings[1].indices)
    np.testing.assert_array_equal(rankings[0].indices, Ranking.load(tmp_path / "r" / "ranking.npz").indices)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "5"], "--budget limits re-ranking"),
        (["--depth", "5"], "for re-ranking; give --rerank or --preset"),
        (["--preset", "fast"], "unknown preset 'fast'"),
        (["--rerank", "none", "--preset", "speed"], "contradict"),
        (["--rerank", "rapid", "--budget", "0"], "milliseconds a query above 0"),
    ],
)
def test_options_that_do_not_go_together(
    words: list[str], message: str, street: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = [
        "evaluate",
        *MODEL,
        "--dataset",
        str(street),
        "--truth",
        "frames:0",
        "--out",
        str(tmp_path / "r"),
    ]
    assert main([*given, *words]) == 1
    assert message in capfd.readouterr().err


@pytest.mark.slow
def test_stores_that_cannot_be_re_ranked(
    results: Path, street: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = str(results / "model")
    assert main(["extract", model, str(street / "queries"), "--out", str(tmp_path / "bare"), "--quiet"]) == 0
    ranking, database = str(results / "first_ranking.npz"), str(results / "database")

    def refused(queries: str, *more: str) -> str:
        words = ["rerank", ranking, "--database", database, "--queries", queries, *more]
        assert main([*words, "--out", str(tmp_path / "no.npz")]) == 1
        assert not (tmp_path / "no.npz").exists()
        return capfd.readouterr().err

    assert "there are no patches" in refused(str(tmp_path / "bare"))
    other = ["extract", model, str(street / "queries"), "--out", str(tmp_path / "other"), "--quiet"]
    assert main([*other, "--patches", "--preset", "speed"]) == 0
    assert "was made otherwise (sizes: (2, 4) there, (5,) in the queries" in refused(str(tmp_path / "other"))
    assert "'speed' needs patches of sizes [5]" in refused(str(results / "queries"), "--preset", "speed")
    (tmp_path / "one").mkdir()
    np.save(tmp_path / "one" / "short.npy", np.zeros((3, 2), np.int64))
    words = ["--database", database, "--queries", str(results / "queries"), "--out", str(tmp_path / "no.npz")]
    assert main(["rerank", str(tmp_path / "one" / "short.npy"), *words]) == 1
    assert "ranking is of 3 queries" in capfd.readouterr().err
