"""The reranker: orders, ties, depth, and what it refuses."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.patches import PatchSet
from dejavlad.ranking import Ranking
from dejavlad.rerank import MATCHERS, Match, Reranker

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
    found = Reranker(kind)(given, queries, database)
    assert found.indices[:, 0].tolist() == [3, 5]
    assert (np.diff(found.distances) >= 0).all()
    np.testing.assert_array_equal(np.sort(found.indices), np.sort(given.indices))


def test_patches_by_function(queries, database):
    asked = []

    def source(row):
        asked.append(row)
        return database[row]

    found = Reranker()(ranking([0, 3, -1], [5, 4, 1]), queries.__getitem__, source)
    assert found.indices[0].tolist() == [3, 0, -1]
    assert found.indices[1, 0] == 5
    assert asked == [0, 3, 5, 4, 1]


def test_depth_leaves_the_rest_behind(queries, database):
    found = Reranker(k=3)(ranking([0, 1, 3, 5, 2, -1], [0, 1, 2, 5, -1, -1]), queries, database)
    assert found.indices[0].tolist()[0] == 3
    assert found.indices[0].tolist()[3:] == [5, 2, -1]
    assert found.indices[1].tolist()[3:] == [5, -1, -1]
    assert (found.distances[:, :-1] <= found.distances[:, 1:]).all()
    assert np.isposinf(found.distances[found.indices < 0]).all()


def test_one_candidate_and_none(queries, database):
    one = Reranker(k=1)(ranking([2, 3, 1], [-1, -1, -1]), queries, database)
    assert one.indices.tolist() == [[2, 3, 1], [-1, -1, -1]]
    assert one.distances[0].tolist() == [0, 1, 2]
    empty = Reranker()(Ranking(np.zeros((2, 0)), np.zeros((2, 0))), queries, database)
    assert empty.indices.shape == (2, 0)


class Same:
    def __call__(self, query, candidates):
        nothing = np.zeros((0, 2), dtype=np.float32)
        return [Match(-0.3, nothing, nothing) for _ in candidates]


def test_ties_stay_as_they_were(queries, database):
    given = ranking([4, 0, 5, 3, 1, 2], [1, 0, 3, 2, 5, 4])
    found = Reranker(Same())(given, queries, database)
    np.testing.assert_array_equal(found.indices, given.indices)
    assert (found.distances == 0).all()


@pytest.mark.parametrize("kind", sorted(MATCHERS))
def test_blank_photos(kind, database):
    blank = [PatchSet(torch.full((48, 16), 0.25), CENTRES, GRID, size) for size in SIZES]
    found = Reranker(kind)(ranking([0, 1, 2]), [blank], [blank, database[1], blank])
    assert sorted(found.indices[0]) == [0, 1, 2]
    assert np.isfinite(found.distances).all()


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
