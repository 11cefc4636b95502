"""The reranker: orders, ties, depth, and what it refuses."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.patches import PatchSet
from dejavlad.ranking import Ranking
from dejavlad.rerank import MATCHERS, PatchMatch, Reranker

GRID, SIZES = (6, 8), (2, 3)
CENTRES = torch.tensor([[16.0 * (i % 8), 16.0 * (i // 8)] for i in range(48)])


def photo(seed, noise_of=None, noise=0.0):
    generator = torch.Generator().manual_seed(seed)
    sets = []
    for s, size in enumerate(SIZES):
        rows = torch.randn(48, 16, generator=generator)
        if noise_of is not None:
            rows = noise_of[s].descriptors + noise * rows
        sets.append(PatchSet(F.normalize(rows, dim=1), CENTRES, GRID, size))
    return sets


@pytest.fixture(scope="module")
def database():
    return [photo(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def queries(database):
    return [photo(100, database[3], 0.05), photo(101, database[5], 0.05)]


def ranking(*rows):
    indices = np.array(rows)
    distances = np.where(indices >= 0, np.arange(indices.shape[1], dtype=np.float32), np.inf)
    return Ranking(indices, distances)


@pytest.mark.parametrize("kind", sorted(MATCHERS))
def test_the_right_photo_comes_first(kind, queries, database):
    given = ranking([0, 1, 3, 5, 2, 4], [0, 1, 2, 3, 4, 5])
    reranked = Reranker(kind)(given, queries, database)
    assert reranked.indices[:, 0].tolist() == [3, 5]
    assert (np.diff(reranked.distances) >= 0).all()
    np.testing.assert_array_equal(np.sort(reranked.indices), np.sort(given.indices))


def test_patches_by_function(queries, database):
    rows_read = []

    def source(row):
        rows_read.append(row)
        return database[row]

    reranked = Reranker()(ranking([0, 3, -1], [5, 4, 1]), queries.__getitem__, source)
    assert reranked.indices[0].tolist() == [3, 0, -1]
    assert reranked.indices[1, 0] == 5
    assert rows_read == [0, 3, 5, 4, 1]


def test_depth_leaves_the_rest_behind(queries, database):
    reranked = Reranker(k=3)(ranking([0, 1, 3, 5, 2, -1], [0, 1, 2, 5, -1, -1]), queries, database)
    assert reranked.indices[0].tolist()[0] == 3
    assert reranked.indices[0].tolist()[3:] == [5, 2, -1]
    assert reranked.indices[1].tolist()[3:] == [5, -1, -1]
    assert (reranked.distances[:, :-1] <= reranked.distances[:, 1:]).all()
    assert np.isposinf(reranked.distances[reranked.indices < 0]).all()


def test_one_candidate_and_none(queries, database):
    reranked = Reranker(k=1)(ranking([2, 3, 1], [-1, -1, -1]), queries, database)
    assert reranked.indices.tolist() == [[2, 3, 1], [-1, -1, -1]]
    assert reranked.distances[0].tolist() == [0, 1, 2]
    empty = Reranker()(Ranking(np.zeros((2, 0)), np.zeros((2, 0))), queries, database)
    assert empty.indices.shape == (2, 0)


class Same:
    def __call__(self, query, candidates):
        nothing = np.zeros((0, 2), dtype=np.float32)
        return [PatchMatch(-0.3, nothing, nothing) for _ in candidates]


def test_ties_stay_as_they_were(queries, database):
    given = ranking([4, 0, 5, 3, 1, 2], [1, 0, 3, 2, 5, 4])
    reranked = Reranker(Same())(given, queries, database)
    np.testing.assert_array_equal(reranked.indices, given.indices)
    assert (reranked.distances == 0).all()


@pytest.mark.parametrize("kind", sorted(MATCHERS))
def test_blank_photos(kind, database):
    blank = [PatchSet(torch.full((48, 16), 0.25), CENTRES, GRID, size) for size in SIZES]
    reranked = Reranker(kind)(ranking([0, 1, 2]), [blank], [blank, database[1], blank])
    assert sorted(reranked.indices[0]) == [0, 1, 2]
    assert np.isfinite(reranked.distances).all()


def test_inliers_and_homography(queries, database):
    ((match, _),) = Reranker("ransac").match(queries[0], [database[3]])
    assert match.homography.shape == (3, 3)
    assert match.query_points.shape == match.candidate_points.shape == (round(-match.score * 48), 2)


def test_bad_input(queries, database):
    with pytest.raises(UnknownNameError, match="did you mean ransac"):
        Reranker("ransak")
    with pytest.raises(UnknownNameError, match="unknown fusion"):
        Reranker(fusion="mean")
    with pytest.raises(InputError, match="matcher 'rapid'"):
        Reranker("rapid", threshold=3)
    with pytest.raises(InputError, match="k=0"):
        Reranker(k=0)
    with pytest.raises(InputError, match="2 patch sizes need 2"):
        Reranker(weights=[1])(ranking([0]), queries, database)
    with pytest.raises(InputError, match="given \\[1, 2\\] sizes"):
        Reranker()(ranking([0]), queries, [database[0][:1]])


def test_progress_query_by_query(queries, database):
    reports = []
    Reranker()(ranking([0, 3], [-1, -1]), queries, database, on_progress=reports.append)
    assert [(report.what, report.done, report.total) for report in reports] == [
        ("re-ranking", n, 2) for n in range(3)
    ]


def test_one_query(queries, database):
    given = ranking([0, 1, 3, 5, 2, 4], [0, 1, 2, 3, 4, 5])
    whole = Reranker("rapid")(given, queries, database)
    rows, scores = Reranker("rapid").rerank_query(
        given.indices[0], queries[0], [database[n] for n in given.indices[0]]
    )
    np.testing.assert_array_equal(rows, whole.indices[0])
    np.testing.assert_allclose(scores, whole.distances[0], rtol=1e-6)


def test_fewer_candidates_than_asked_for(queries, database):
    given = ranking([0, 3, -1], [5, -1, -1])
    reranked = Reranker(k=100, shortlist="auto")(given, queries, database)
    assert reranked.indices.tolist() == [[3, 0, -1], [5, -1, -1]]


class Counting:
    """Rough scores that are nearly right, exact ones that are, and how many of these were asked for."""

    def __init__(self, exact, approximate):
        self.exact, self.approximate_scores, self.compared = exact, approximate, []

    def __call__(self, query, candidates):
        nothing = np.zeros((0, 2), dtype=np.float32)
        rows = [int(patch_set.descriptors[0, 0]) for patch_set in candidates]
        self.compared += rows
        return [PatchMatch(self.exact[row], nothing, nothing) for row in rows]

    def approximate(self, query, candidates, dims):
        return np.array(
            [self.approximate_scores[int(patch_set.descriptors[0, 0])] for patch_set in candidates]
        )


def numbered(count):
    centre = torch.zeros(1, 2)
    return [[PatchSet(torch.full((1, 4), float(n)), centre, (1, 1), 2)] for n in range(count)]


def test_shortlist_compares_the_best_exactly():
    approximate = -np.arange(40.0)  # the last seems best
    exact = approximate.copy()
    exact[37] = -60.0
    matcher = Counting(exact, approximate)
    fused = Reranker(matcher, shortlist=4).scores(numbered(1)[0], numbered(40))
    assert sorted(matcher.compared) == [36, 37, 38, 39]
    order = np.argsort(fused, kind="stable").tolist()
    assert order[:4] == [37, 39, 38, 36]
    assert order[4:] == list(range(35, -1, -1))


def test_shortlist_puts_what_it_compared_first():
    approximate = -np.arange(10.0)
    exact = approximate.copy()
    exact[9] = 5.0  # it only seemed good
    fused = Reranker(Counting(exact, approximate), shortlist=2).scores(numbered(1)[0], numbered(10))
    assert np.argsort(fused, kind="stable")[:2].tolist() == [8, 9]


def test_auto_shortlist_grows_where_it_is_close():
    clear = -np.concatenate([np.linspace(1, 2, 60), [50.0]])
    matcher = Counting(clear, clear)
    fused = Reranker(matcher, shortlist="auto").scores(numbered(1)[0], numbered(61))
    assert fused.argmin() == 60
    assert len(matcher.compared) == 8
    noise = np.random.default_rng(0).normal(size=61)
    unsure = Counting(noise, np.random.default_rng(1).normal(size=61))
    Reranker(unsure, shortlist="auto").scores(numbered(1)[0], numbered(61))
    assert len(unsure.compared) == len(set(unsure.compared)) == 24


@pytest.mark.parametrize("shortlist", [1, 3, "auto"])
def test_shortlist_where_all_score_the_same(shortlist):
    fused = Reranker(Counting(np.zeros(40), np.zeros(40)), shortlist=shortlist).scores(
        numbered(1)[0], numbered(40)
    )
    assert fused.tolist() == [0] * 40


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(MATCHERS))
def test_shortlist_finds_the_right_photo(kind, queries, database):
    many = [*(photo(200 + n) for n in range(20)), *database]
    given = ranking(list(range(26)), list(range(26)))
    for shortlist in (1, 5, "auto"):
        reranked = Reranker(kind, shortlist=shortlist)(given, queries, many)
        assert reranked.indices[:, 0].tolist() == [23, 25]
        np.testing.assert_array_equal(np.sort(reranked.indices), given.indices)
        assert (np.diff(reranked.distances) >= 0).all()


def test_shortlist_as_long_as_the_candidates_is_exact(queries, database):
    given = ranking([0, 1, 3, 5, 2, 4], [0, 1, 2, 3, 4, 5])
    exact, listed = (Reranker("ransac", shortlist=n)(given, queries, database) for n in (None, 6))
    np.testing.assert_array_equal(exact.indices, listed.indices)
    np.testing.assert_array_equal(exact.distances, listed.distances)


def test_bad_shortlist():
    for bad in (0, -3, "some", 1.5):
        with pytest.raises(InputError, match="shortlist is a number"):
            Reranker(shortlist=bad)
    with pytest.raises(InputError, match="Same has not"):
        Reranker(Same(), shortlist="auto")


@pytest.mark.parametrize("shortlist", [None, 1])
def test_patches_of_another_model(shortlist, queries, database):
    other = [
        PatchSet(patch_set.descriptors[:, :8], patch_set.centres, patch_set.grid, patch_set.size)
        for patch_set in database[0]
    ]
    swapped = database[0][::-1]
    with pytest.raises(InputError, match="16 and 8 dimensions"):
        Reranker(shortlist=shortlist).scores(queries[0], [database[1], other])
    with pytest.raises(InputError, match="2 and 3 cells"):
        Reranker(shortlist=shortlist).scores(queries[0], [database[1], swapped])
