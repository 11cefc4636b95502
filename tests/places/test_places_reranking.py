"""Whole rankings re-ranked: presets, resuming, time limits, and photos without patches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.patches import PatchSet
from dejavlad.places import reranking
from dejavlad.places.preset import (
    PRESETS,
    Preset,
    chosen_preset,
    load_preset,
)
from dejavlad.places.reranking import (
    least_sure_first,
    rerank_all,
)
from dejavlad.ranking import Ranking
from dejavlad.rerank import Reranker


def patches(seed: int, noise: float = 0.0, dims: int = 16, grid: tuple[int, int] = (4, 5)) -> list[PatchSet]:
    """Place number `seed`."""
    drawn = torch.randn(20, dims, generator=torch.Generator().manual_seed(seed))
    drawn += noise * torch.randn(20, dims, generator=torch.Generator().manual_seed(1000 + seed))
    y, x = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    centres = 16.0 * torch.stack([x.flatten(), y.flatten()], dim=1)
    return [PatchSet(torch.nn.functional.normalize(drawn, dim=1), centres, grid, 5)]


QUERIES, DATABASE = 6, 9
FIRST = Ranking(
    np.array([[(q + shift) % DATABASE for shift in (3, 1, 0, 5, 2)] for q in range(QUERIES)]),
    np.tile(np.array([0.5, 0.6, 0.7, 0.8, 0.9], np.float32), (QUERIES, 1))
    + 0.1 * np.arange(QUERIES, dtype=np.float32)[:, None],
)


def query(row: int) -> Sequence[PatchSet]:
    return patches(row, 0.2)


def test_the_right_place_comes_first() -> None:
    result = rerank_all(Reranker("rapid", k=4), FIRST, query, patches)
    assert result.ranking.indices[:, 0].tolist() == list(range(QUERIES))
    assert (result.ranking.indices[:, 4] == FIRST.indices[:, 4]).all()  # not among the four compared
    assert (np.diff(result.ranking.distances, axis=1) >= 0).all()
    np.testing.assert_array_equal(result.first.indices, FIRST.indices)
    assert result.done.all() and result.milliseconds(QUERIES) > 0
    plain = Reranker("rapid", k=4)(FIRST, query, patches)
    np.testing.assert_array_equal(result.ranking.indices, plain.indices)
    np.testing.assert_allclose(result.ranking.distances, plain.distances, atol=1e-6)


def test_least_sure_queries_are_first() -> None:
    order = least_sure_first(FIRST)
    assert order.tolist() == [5, 4, 3, 2, 1, 0]  # 0.5 of 0.7 stands out more than 1.0 of 1.2
    none = Ranking(np.full((1, 3), -1), np.full((1, 3), np.inf, np.float32))
    assert least_sure_first(none).tolist() == [0]
    assert least_sure_first(Ranking(np.array([[0, 1]]), np.zeros((1, 2), np.float32))).tolist() == [0]


def test_a_budget_leaves_the_surest_queries_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(reranking.time, "perf_counter", lambda: float(next(ticks)))  # a query takes a second
    result = rerank_all(Reranker("rapid"), FIRST, query, patches, budget_ms=500)
    assert result.done.tolist() == [False, False, False, True, True, True]
    assert (result.ranking.indices[:3] == FIRST.indices[:3]).all()
    assert result.ranking.indices[3:, 0].tolist() == [3, 4, 5]
    assert result.milliseconds(QUERIES) == pytest.approx(500)
    assert result.after(1).indices[:, 0].tolist() == [3, 4, 5, 6, 7, 5]
    assert result.milliseconds(1) == pytest.approx(1000 / 6)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="milliseconds a query above 0"):
            rerank_all(Reranker("rapid"), FIRST, query, patches, budget_ms=wrong)


def test_interrupted_it_goes_on(tmp_path: Path) -> None:
    rows_read: list[int] = []

    def stopping(row: int) -> Sequence[PatchSet]:
        rows_read.append(row)
        if len(rows_read) == 4:
            raise KeyboardInterrupt
        return query(row)

    setting = {"preset": "a"}
    with pytest.raises(KeyboardInterrupt):
        rerank_all(Reranker("rapid"), FIRST, stopping, patches, keep=tmp_path / "kept", setting=setting)
    result = rerank_all(Reranker("rapid"), FIRST, stopping, patches, keep=tmp_path / "kept", setting=setting)
    assert rows_read == [5, 4, 3, 2, 2, 1, 0]
    whole = rerank_all(Reranker("rapid"), FIRST, query, patches)
    np.testing.assert_array_equal(result.ranking.indices, whole.ranking.indices)
    np.testing.assert_array_equal(result.ranking.distances, whole.ranking.distances)
    rows_read.clear()
    rerank_all(Reranker("rapid"), FIRST, stopping, patches, keep=tmp_path / "kept", setting=setting)
    assert rows_read == []
    with pytest.raises(KeyboardInterrupt):  # another setting begins anew
        rerank_all(
            Reranker("rapid"), FIRST, stopping, patches, keep=tmp_path / "kept", setting={"preset": "b"}
        )
    assert len(rows_read) == 4
    result.forget(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_photos_without_patches() -> None:
    """A query without any stays as it was; candidates without any stand behind those compared."""
    lacking = {int(FIRST.indices[5, 0])}
    result = rerank_all(
        Reranker("rapid"),
        FIRST,
        lambda row: [] if row == 2 else query(row),
        lambda row: [] if row in lacking else patches(row),
    ).ranking
    np.testing.assert_array_equal(result.indices[2], FIRST.indices[2])
    np.testing.assert_array_equal(result.distances[2], FIRST.distances[2])
    assert result.indices[5, 0] == 5 and result.indices[5, 4] in lacking
    assert sorted(result.indices[5]) == sorted(FIRST.indices[5])
    assert np.isfinite(result.distances).all() and (np.diff(result.distances, axis=1) >= 0).all()


def test_short_rankings() -> None:
    """-1 stays at the end; a query without any answer stays empty."""
    short = Ranking(
        np.array([[3, 0, -1], [-1, -1, -1]]), np.array([[0.5, 0.6, np.inf], [np.inf] * 3], np.float32)
    )
    result = rerank_all(Reranker("rapid"), short, query, patches).ranking
    assert result.indices.tolist() == [[0, 3, -1], [-1, -1, -1]]


def test_shipped_presets_have_the_originals_values() -> None:
    originals = {
        "performance": ("ransac", (2, 5, 8), (1, 1, 1), (0.45, 0.15, 0.4), 4096),
        "speed": ("rapid", (5,), (1,), (1.0,), 512),
        "storage": ("rapid", (5,), (1,), (1.0,), 128),
    }
    for name in PRESETS:
        preset = load_preset(name)
        assert (preset.matcher, preset.sizes, preset.strides, preset.weights, preset.dims) == originals[name]
        assert preset.depth == 100 and preset.fusion == "zscore" and preset.name == name
        assert preset.reranker().k == 100


def test_presets_of_users(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'matcher = "ransac"\nsizes = [3, 6]\nweights = [0.7, 0.3]\npatch_dtype = "int8"\ndepth = 7\n'
    )
    mine = load_preset(path)
    assert mine == Preset("ransac", (3, 6), (1, 1), (0.7, 0.3), depth=7, patch_dtype="int8", name="mine")
    assert mine.reranker().weights == (0.7, 0.3) and str(mine) == "ransac (mine: patches 3, 6, first 7)"
    ini = tmp_path / "their.ini"
    ini.write_text(
        "[feature_extract]\nimageresizew=640\nimageresizeh=480\n[feature_match]\nmatcher=RANSAC\n"
        "n_values_all=1,5,50\npatchweights2use=0.5,0.5\nimageresizew=640\nimageresizeh=480\n"
        "[global_params]\npooling=patchnetvlad\nnum_pcs=256\npatch_sizes=2,4\nstrides=1,1\nresumepath=x\n"
    )
    theirs = load_preset(ini)
    assert (theirs.matcher, theirs.sizes, theirs.weights, theirs.dims, theirs.depth) == (
        "ransac",
        (2, 4),
        (0.5, 0.5),
        256,
        50,
    )
    assert theirs.resize == "480x640"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('matcher = "magic"', "unknown matcher 'magic'"),
        ("sizes = [2, 5]\nweights = [1.0]", "2 patch sizes need 2 weights"),
        ("sizes = []", "one stride for each size"),
        ("size = 5", "unknown key of a preset 'size'.*sizes"),
        ('patch_dtype = "int3"', "stored as 'int3'; valid: float32"),
        ("depth = 0", "at least 1 candidate"),
        ("sizes = 5", "mine"),
        ("sizes = [", "mine"),
    ],
)
def test_presets_that_cannot_be(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_preset(tmp_path / "mine.toml")


def test_what_options_ask_for() -> None:
    assert chosen_preset(None, None) is None and chosen_preset("none", None) is None
    rapid, ransac = chosen_preset("rapid", None), chosen_preset("ransac", None, depth=20, patch_dtype="int8")
    assert rapid is not None and (rapid.sizes, rapid.dims, rapid.name) == ((5,), None, "rapid")
    assert ransac is not None and (ransac.sizes, ransac.depth, ransac.patch_dtype) == ((2, 5, 8), 20, "int8")
    mixed = chosen_preset("ransac", "speed")
    assert mixed is not None and (mixed.matcher, mixed.sizes, mixed.dims) == ("ransac", (5,), 512)
    with pytest.raises(InputError, match="for re-ranking; give --rerank"):
        chosen_preset(None, None, depth=5)
    with pytest.raises(InputError, match="contradict"):
        chosen_preset("none", "speed")
    with pytest.raises(UnknownNameError, match=r"did you mean speed.*\.toml or \.ini"):
        chosen_preset(None, "sped")


def test_patches_that_are_there_already() -> None:
    rapid, speed = chosen_preset("rapid", None), load_preset("speed")
    assert rapid is not None
    assert rapid.fitted_to((2, 5, 8), (1, 1, 1)).sizes == (2, 5, 8)
    assert speed.fitted_to((5,), (1,)) is speed
    with pytest.raises(InputError, match=r"'speed' needs patches of sizes \[5\].*have \[2\].*--rerank alone"):
        speed.fitted_to((2,), (1,))
