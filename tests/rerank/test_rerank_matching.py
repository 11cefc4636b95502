"""Matchers and fusion: the test vectors of the original, a plain loop as oracle, and degenerate input."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dejavlad.aggregation import patch_centres
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.numerics.int8 import has_int8_matmul
from dejavlad.patches import PatchSet
from dejavlad.rerank import (
    METHODS,
    RansacMatcher,
    RapidMatcher,
    fuse_sum,
    fuse_zscores,
    mutual_nearest,
    rapid_scores,
)
from dejavlad.rerank.coarse import CoarseDescriptors
from dejavlad.rerank.matching import Mutual
from dejavlad.rerank.ransac import homography
from dejavlad.rerank.tensor_cache import tensor_cache
from dejavlad.rerank.whole import QuantizedDescriptors, mutual
from dejavlad.rerank.workers import parallel_map

VGG16 = SimpleNamespace(stride=16, offset=7.5)
GRIDS = {2: (29, 39), 5: (26, 36), 8: (23, 33)}


def patches(seed=0, size=5, grid=None, dims=32, descriptors=None):
    grid = grid or GRIDS[size]
    if descriptors is None:
        generator = torch.Generator().manual_seed(seed)
        descriptors = F.normalize(torch.randn(grid[0] * grid[1], dims, generator=generator), dim=1)
    return PatchSet(descriptors, patch_centres(grid, size, 1, VGG16), grid, size)


def shifted(patch_set, columns):
    """The same patches, some columns to the right, round the edge."""
    rolled = patch_set.descriptors.view(*patch_set.grid, -1).roll(columns, dims=1).reshape(len(patch_set), -1)
    return patches(size=patch_set.size, grid=patch_set.grid, descriptors=rolled)


def test_mutual_nearest_is_the_plain_loop():
    query, other = patches(0, grid=(4, 5)), patches(1, grid=(3, 6))
    mutual_matches = mutual_nearest(query.descriptors, other.descriptors[None])
    similarity = (other.descriptors @ query.descriptors.T).numpy()
    expected = [(d, q) for d, q in enumerate(similarity.argmax(1)) if similarity[:, q].argmax() == d]
    ((query_rows, candidate_rows),) = mutual_matches.pairs()
    assert list(zip(candidate_rows, query_rows, strict=True)) == expected


@pytest.mark.parametrize(("size", "score"), [(2, -2228), (5, -1850), (8, -1508)])
def test_identical_photos(size, score):
    same = patches(size=size)
    (rapid,), (ransac,) = RapidMatcher()(same, [same]), RansacMatcher()(same, [same])
    assert rapid.score == pytest.approx(score)
    assert ransac.score == -1
    np.testing.assert_allclose(ransac.homography, np.eye(3), atol=1e-5)
    np.testing.assert_array_equal(ransac.query_points, ransac.candidate_points)
    assert len(rapid.query_points) == len(same)


def test_rapid_is_the_formula_written_out():
    query, other = patches(0), patches(1)
    ((query_rows, candidate_rows),) = mutual_nearest(query.descriptors, other.descriptors[None]).pairs()
    height, width = query.grid
    expected = 0.0
    for most, axis in ((width - 1, lambda at: at % width), (height - 1, lambda at: at // width)):
        shift = axis(candidate_rows) - axis(query_rows)
        expected -= ((most - abs(shift - shift.mean())) ** 2).sum()
    (match,) = RapidMatcher()(query, [other])
    assert match.score == pytest.approx(expected / len(query), rel=1e-12)


@pytest.mark.parametrize("matcher", [RapidMatcher(), RansacMatcher()])
def test_many_candidates_are_as_one_by_one(matcher):
    query = patches(0)
    candidates = [patches(1), shifted(query, 3), patches(2, grid=(9, 9)), patches(3), shifted(query, 1)]
    together = matcher(query, candidates)
    for match, candidate in zip(together, candidates, strict=True):
        (alone,) = matcher(query, [candidate])
        assert match.score == pytest.approx(alone.score)
        np.testing.assert_array_equal(match.query_points, alone.query_points)
    assert matcher(query, []) == []


def test_ransac_finds_a_shift():
    query = patches(0)
    (match,) = RansacMatcher()(query, [shifted(query, 4)])
    assert match.score <= -(36 - 4) / 36
    np.testing.assert_allclose(match.homography[:2, 2], [-64, 0], atol=1e-2)
    assert RansacMatcher()(query, [shifted(query, 4)])[0].score == match.score


def test_ransac_of_points_without_a_plane():
    line = np.array([[x, 5] for x in range(4)], dtype=np.float32)
    assert homography(line, line, 24)[0] is None
    for few in range(4):
        matrix, inlier = homography(line[:few], line[:few], 24)
        assert matrix is None and inlier.tolist() == [False] * few


def test_blank_photos_match_in_one_patch():
    blank = patches(descriptors=torch.full((936, 4), 0.5))
    assert RansacMatcher()(blank, [blank])[0].score == 0
    (rapid,) = RapidMatcher()(blank, [blank])
    assert len(rapid.query_points) == 1
    assert np.isfinite(rapid.score)


def test_no_mutual_match_scores_nothing():
    nothing = Mutual(torch.zeros(2, 12, dtype=torch.int64), torch.zeros(2, 12, dtype=torch.bool))
    assert rapid_scores(nothing, (3, 4), (3, 4)).tolist() == [0, 0]


def test_half_precision_patches():
    query = patches(0)
    half = PatchSet(query.descriptors.half(), query.centres, query.grid, query.size)
    assert RapidMatcher()(half, [half])[0].score == pytest.approx(-1850)
    assert RapidMatcher()(query, [half])[0].score == pytest.approx(-1850)


def test_patches_that_cannot_be_matched():
    with pytest.raises(InputError, match="2 and 5 cells"):
        RapidMatcher()(patches(size=2), [patches(size=5)])
    with pytest.raises(InputError, match="32 and 16 dimensions"):
        RapidMatcher()(patches(), [patches(dims=16)])


@pytest.mark.parametrize("option", [{"threshold": 0}, {"iterations": 0}, {"confidence": 1}, {"threads": 0}])
def test_bad_ransac_settings(option):
    with pytest.raises(InputError, match="RANSAC needs"):
        RansacMatcher(**option)


def test_fusion_is_the_weighted_zscore():
    scores = np.array([[-3.0, -1.0], [-1.0, -2.0], [-2.0, -6.0]])
    z = (scores - scores.mean(0)) / scores.std(0)
    np.testing.assert_allclose(fuse_zscores(scores, [0.7, 0.3]), z @ [0.7, 0.3])
    np.testing.assert_allclose(fuse_zscores(scores), z @ [0.5, 0.5])
    np.testing.assert_allclose(fuse_sum(scores, [0.7, 0.3]), scores @ [0.7, 0.3])


def test_fusion_where_all_score_the_same():
    # 0.1 three times has a mean that is not 0.1, and a spread that is not 0.
    scores = np.array([[0.1, -1.0], [0.1, -2.0], [0.1, -3.0]])
    np.testing.assert_allclose(fuse_zscores(scores, [0.9, 0.1]), [0.1224745, 0, -0.1224745], atol=1e-6)
    assert fuse_zscores(np.zeros((4, 3))).tolist() == [0] * 4
    assert fuse_zscores([[-0.3]]).tolist() == [0]
    assert fuse_zscores(np.zeros((0, 3))).tolist() == []


def test_bad_fusion():
    with pytest.raises(InputError, match="2 patch sizes need 2"):
        fuse_zscores(np.zeros((4, 2)), [1])
    with pytest.raises(InputError, match="finite"):
        fuse_zscores([[np.nan]])


def places(seed, dims=64, noise=0.6):
    """A query and candidates: two that show part of it, and others."""
    query = patches(seed, dims=dims)
    generator = torch.Generator().manual_seed(seed + 1)
    related = []
    for columns in (2, -3):
        moved = shifted(query, columns).descriptors
        rows = moved + noise * torch.randn(moved.shape, generator=generator) / dims**0.5
        related.append(patches(descriptors=F.normalize(rows, dim=1)))
    return query, [patches(seed + 2, dims=dims), *related, patches(seed + 3, dims=dims)]


whole_numbers = pytest.mark.skipif(
    not has_int8_matmul(), reason="this processor does not multiply 8-bit numbers itself"
)


def heavy(patch_set, power):
    """Descriptors whose numbers are of very different sizes."""
    rows = patch_set.descriptors.abs().pow(power) * patch_set.descriptors.sign()
    return patches(descriptors=F.normalize(rows, dim=1))


@pytest.mark.parametrize("tail", [1.0, 3.0])
@pytest.mark.parametrize("dims", [24, 64, 300])
@whole_numbers
def test_whole_numbers_find_the_matches_of_float32(dims, tail):
    query, candidates = places(7, dims)
    query, *candidates = (heavy(candidate, tail) for candidate in (query, *candidates))
    rounded = QuantizedDescriptors(query.descriptors)
    for candidate in candidates:
        query_rows, candidate_rows = mutual(rounded, QuantizedDescriptors(candidate.descriptors))
        ((expected_query, expected_candidate),) = mutual_nearest(
            query.descriptors, candidate.descriptors[None]
        ).pairs()
        np.testing.assert_array_equal(query_rows, expected_query)
        np.testing.assert_array_equal(candidate_rows, expected_candidate)
    whole = [QuantizedDescriptors(photo.descriptors).whole_PD for photo in (candidates[0], query)]
    similarity = whole[0].int() @ whole[1].int().T
    exact = candidates[0].descriptors @ query.descriptors.T
    assert (similarity.argmax(1) != exact.argmax(1)).any()  # rounding alone would have changed some


@whole_numbers
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_whole_numbers_where_all_products_are_negative(dtype):
    """Columns of zeros, by which products are made wider, are never the nearest."""
    rows = F.normalize(torch.rand(2, 90, 24, generator=torch.Generator().manual_seed(4)), dim=2).to(dtype)
    query, candidate = rows[0, :61], -rows[1]
    query_rows, candidate_rows = mutual(QuantizedDescriptors(query), QuantizedDescriptors(candidate))
    ((expected_query, expected_candidate),) = mutual_nearest(query.float(), candidate[None].float()).pairs()
    np.testing.assert_array_equal(query_rows, expected_query)
    np.testing.assert_array_equal(candidate_rows, expected_candidate)


@whole_numbers
@pytest.mark.parametrize("share", [0.5, torch.linspace(0.05, 0.95, 200)[:, None]])
@pytest.mark.parametrize("dims", [512, 1000])
def test_whole_numbers_leave_rows_of_few_different_values_to_float32(dims, share):
    """A row's numbers are all rounded to the same side, so that their errors add up."""
    rows = torch.rand(2, 200, dims, generator=torch.Generator().manual_seed(5)) < share
    query, candidate = F.normalize(rows.float(), dim=2)
    assert mutual(QuantizedDescriptors(query), QuantizedDescriptors(candidate)) is None


@whole_numbers
@pytest.mark.parametrize("guess", [0.01, 0.9, 1.0, 1.4, 100.0])
def test_a_wrong_guess_of_the_largest_number_does_not_matter(guess):
    query, candidates = places(13)
    likely = guess * float(candidates[1].descriptors.abs().max())
    rounded = QuantizedDescriptors.passing(candidates[1].descriptors, likely)
    steps = candidates[1].descriptors.double() * 127 / rounded.peak
    assert (rounded.whole_PD.double() - steps).abs().max() <= 0.5 + 1e-4
    matches = mutual(QuantizedDescriptors(query.descriptors), rounded)
    (expected,) = mutual_nearest(query.descriptors, candidates[1].descriptors[None]).pairs()
    np.testing.assert_array_equal(matches, expected)


@whole_numbers
def test_whole_numbers_take_the_first_of_equals():
    rows = F.normalize(torch.randn(20, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    doubled = torch.cat([rows, rows])
    query_rows, candidate_rows = mutual(QuantizedDescriptors(doubled), QuantizedDescriptors(doubled))
    assert query_rows.tolist() == candidate_rows.tolist() == list(range(20))


@whole_numbers
def test_whole_numbers_leave_blank_photos_to_float32():
    for value in (0.0, 0.5, 1e-20, 1e20, float("nan")):
        blank = torch.full((200, 4), value)
        assert mutual(QuantizedDescriptors(blank), QuantizedDescriptors(blank)) is None


def test_what_is_made_of_a_tensor_is_kept_with_it():
    tensor, made = torch.ones(3), []

    def total(tensor):
        made.append(float(tensor.sum()))
        return made[-1]

    assert [tensor_cache(tensor, "sum", total) for _ in range(2)] == [3, 3]
    assert made == [3]
    tensor[0] = 5
    assert tensor_cache(tensor, "sum", total) == 7
    assert tensor_cache(torch.zeros(3), "sum", total) == 0
    with torch.inference_mode():
        untracked = torch.ones(3)
        assert tensor_cache(untracked, "sum", total) == 3
        untracked[0] = 5
        assert tensor_cache(untracked, "sum", total) == 7


@whole_numbers
def test_rounding_is_to_the_nearest_step():
    rows = torch.randn(40, 37, generator=torch.Generator().manual_seed(1)) * 3
    rounded = QuantizedDescriptors(rows)
    steps = rows.double() * 127 / float(rows.abs().max())
    assert (rounded.whole_PD.double() - steps).abs().max() <= 0.5 + 1e-4
    assert float(steps.norm(dim=1).max()) <= rounded.length


def test_what_passes_is_kept_from_the_second_time_on():
    tensor, made = torch.ones(3), []

    def total(tensor):
        made.append(float(tensor.sum()))
        return made[-1]

    assert [tensor_cache(tensor, "sum", total, lambda tensor: -1) for _ in range(3)] == [-1, 3, 3]
    assert made == [3]
    tensor[0] = 5
    assert [tensor_cache(tensor, "sum", total, lambda tensor: -1) for _ in range(3)] == [-1, 7, 7]
    with torch.inference_mode():
        assert tensor_cache(torch.ones(3), "sum", total, lambda tensor: -1) == -1


@whole_numbers
def test_a_photo_seen_for_the_first_time_matches_as_ever_after():
    query, candidates = places(11)
    first, second, third = (RapidMatcher()(query, candidates) for _ in range(3))
    for matches in zip(first, second, third, strict=True):
        assert len({match.score for match in matches}) == 1


def test_work_side_by_side_keeps_its_order_and_the_setting():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert parallel_map(lambda n: (n * n, torch.get_num_threads()), range(50)) == [
            (n * n, 1) for n in range(50)
        ]
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            parallel_map(lambda n: 1 // n, [1, 0])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dims", [4, 16, 1000])
def test_sketch_finds_most_matches(dims):
    query, (_, near, *_) = places(3)
    query_rows, candidate_rows = CoarseDescriptors(query.descriptors, dims).mutual(
        near.descriptors, near.grid
    )
    right = (candidate_rows % 36 - query_rows % 36) % 36 == 2
    assert right.sum() > {4: 15, 16: 250, 1000: 425}[dims]  # of 468: every second patch
    assert len(np.unique(query_rows)) == len(query_rows)
    assert len(np.unique(candidate_rows)) == len(candidate_rows)


def test_sketch_of_blank_photos():
    blank = torch.zeros(30, 16)
    query_rows, candidate_rows = CoarseDescriptors(blank, 16).mutual(blank, (5, 6))
    assert (query_rows.tolist(), candidate_rows.tolist()) == ([0], [0])


@pytest.mark.parametrize("matcher", [RapidMatcher(), RansacMatcher()])
def test_rough_scores_tell_the_right_ones(matcher):
    query, candidates = places(5)
    approximate = matcher.approximate(query, candidates, 32)
    assert set(np.argsort(approximate)[:2]) == {1, 2}
    assert matcher.approximate(query, [], 32).shape == (0,)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("seed", [None, 0, 7])
def test_every_ransac_method_finds_the_shift(method, seed):
    query, candidates = places(9)
    matcher = RansacMatcher(method=method, seed=seed)
    first, again = (matcher(query, candidates[1:2])[0] for _ in range(2))
    assert first.score == again.score <= -0.8
    shift = first.candidate_points - first.query_points
    np.testing.assert_array_equal(shift, np.tile([[32, 0]], (len(shift), 1)))
    np.testing.assert_allclose(first.homography[:2, 2], [-32, 0], atol=0.5)


def test_unknown_ransac_method():
    with pytest.raises(UnknownNameError, match="did you mean usac-magsac"):
        RansacMatcher(method="usac-magsak")
    with pytest.raises(UnknownNameError, match="RANSAC method"):
        homography(np.zeros((4, 2), np.float32), np.zeros((4, 2), np.float32), 24, method="lmeds")
    with pytest.raises(InputError, match="given -1"):
        RansacMatcher(seed=-1)


def test_photos_of_different_size_and_aspect():
    query = patches(0)
    part = query.descriptors.view(26, 36, -1)[2:20, 5:30].reshape(-1, 32)
    other = patches(grid=(18, 25), descriptors=part)
    (ransac,), (rapid,) = RansacMatcher()(query, [other]), RapidMatcher()(query, [other])
    assert ransac.score == -len(other) / len(query)
    np.testing.assert_allclose(ransac.homography[:2, 2], [5 * 16, 2 * 16], atol=1e-2)
    # All move alike, so none is off the mean: the most that so few patches can score.
    assert rapid.score == pytest.approx(-len(other) / len(query) * (35**2 + 25**2))


@pytest.mark.parametrize("matcher", [RapidMatcher(), RansacMatcher()])
def test_no_mutual_match_at_all(matcher, monkeypatch):
    query = patches(0, grid=(4, 5))
    none = Mutual(torch.zeros(1, 20, dtype=torch.int64), torch.zeros(1, 20, dtype=torch.bool))
    for module in ("rapid", "ransac"):
        monkeypatch.setattr(f"dejavlad.rerank.{module}.mutual_groups", lambda *_: iter([([query], none)]))
    (match,) = matcher(query, [query])
    assert match.score == 0
    assert match.query_points.shape == match.candidate_points.shape == (0, 2)
    assert match.homography is None


def test_double_precision_and_gradients():
    query = patches(0)
    double = PatchSet(query.descriptors.double().requires_grad_(), query.centres, query.grid, query.size)
    single = PatchSet(query.descriptors.clone().requires_grad_(), query.centres, query.grid, query.size)
    for patch_set in (double, single):
        assert RapidMatcher()(patch_set, [patch_set])[0].score == pytest.approx(-1850)
        assert RapidMatcher().approximate(patch_set, [patch_set], 16)[0] == pytest.approx(-1850)
