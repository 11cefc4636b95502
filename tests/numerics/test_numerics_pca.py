import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dejavlad.errors import InputError
from dejavlad.numerics import fit_pca, held_out_share, sampling_error
from dejavlad.numerics.pca import RELJA_REGULARISATION


def rows(n, d, seed=0, offset=2.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + offset


def applied(pca, given):
    return given @ pca.weight.T + pca.bias


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(1, 30), st.booleans(), st.integers(0, 99))
def test_primal_and_dual_agree(n, d, whiten, seed):
    rows_ND = rows(n, d, seed)
    keep = max(1, min(n - 1, d) // 2)
    primal, dual = (fit_pca(rows_ND, keep, whiten=whiten, form=form) for form in ("primal", "dual"))
    assert np.allclose(primal.variances, dual.variances, rtol=1e-8)
    assert np.allclose(primal.weight, dual.weight, rtol=1e-5, atol=1e-7)
    assert np.allclose(primal.bias, dual.bias, rtol=1e-5, atol=1e-6)
    assert primal.total_variance == pytest.approx(dual.total_variance)


@pytest.mark.parametrize(("n", "d"), [(40, 12), (12, 40)])
def test_it_is_the_singular_value_decomposition(n, d):
    rows_ND = rows(n, d)
    _, singular, vectors = np.linalg.svd(rows_ND - rows_ND.mean(axis=0), full_matrices=False)
    pca = fit_pca(rows_ND, 8, whiten=False)
    assert np.allclose(pca.variances, singular[:8] ** 2 / (n - 1))
    assert np.allclose(np.abs(np.sum(pca.components * vectors[:8], axis=1)), 1)
    assert np.allclose(applied(pca, rows_ND), (rows_ND - rows_ND.mean(axis=0)) @ pca.components.T)
    assert pca.total_variance == pytest.approx(rows_ND.var(axis=0, ddof=1).sum())


@pytest.mark.parametrize(("n", "d"), [(60, 9), (9, 60)])
def test_components_are_orthonormal_and_signs_fixed(n, d):
    pca = fit_pca(rows(n, d))
    assert np.allclose(pca.components @ pca.components.T, np.eye(pca.dims), atol=1e-9)
    largest = np.abs(pca.components).argmax(axis=1)
    assert (pca.components[np.arange(pca.dims), largest] > 0).all()
    assert (np.diff(pca.variances) <= 0).all()


def test_whitened_rows_have_unit_variance():
    rows_ND = rows(400, 6)
    out = applied(fit_pca(rows_ND, regularisation=0.0), rows_ND)
    assert np.allclose(np.cov(out.T), np.eye(6), atol=1e-6)
    assert np.allclose(out.mean(axis=0), 0, atol=1e-9)


def test_without_whitening_distances_stay():
    rows_ND = rows(7, 50)
    out = applied(fit_pca(rows_ND, whiten=False), rows_ND)
    gaps = [np.linalg.norm(x[:, None] - x[None], axis=2) for x in (rows_ND, out)]
    assert np.allclose(*gaps)


@pytest.mark.parametrize(("n", "d", "rank"), [(20, 8, 8), (8, 20, 7), (8, 8, 7), (2, 5, 1)])
def test_all_that_the_rank_allows(n, d, rank):
    assert fit_pca(rows(n, d)).dims == rank


def test_repeated_rows_lower_the_rank():
    rows_ND = np.repeat(rows(5, 30), 3, axis=0)
    assert fit_pca(rows_ND.astype(np.float32)).dims == 4
    with pytest.raises(InputError, match="valid: 1 to 4"):
        fit_pca(rows_ND, 5)


def test_the_first_components_are_those_of_a_smaller_fit():
    rows_ND = rows(30, 12)
    assert np.allclose(fit_pca(rows_ND).weight[:4], fit_pca(rows_ND, 4).weight)
    assert np.allclose(fit_pca(rows_ND).bias[:4], fit_pca(rows_ND, 4).bias)


@pytest.mark.parametrize("form", ["primal", "dual"])
def test_blocks_and_memory_maps_change_nothing(monkeypatch, tmp_path, form):
    rows_ND = rows(23, 17).astype(np.float32)
    whole = fit_pca(rows_ND, 5, form=form)
    monkeypatch.setattr("dejavlad.numerics.pca.BLOCK_VALUES", 50)
    path = tmp_path / "rows.npy"
    np.save(path, rows_ND)
    mapped = fit_pca(np.load(path, mmap_mode="r"), 5, form=form)
    assert np.allclose(mapped.weight, whole.weight)
    assert np.allclose(mapped.bias, whole.bias)


@pytest.mark.parametrize("rows_ND", [np.ones((1, 4)), np.ones(4), np.full((6, 4), 0.1, np.float32)])
def test_rows_that_tell_nothing(rows_ND):
    with pytest.raises(InputError, match="row"):
        fit_pca(rows_ND)


def test_rows_that_are_not_finite():
    with pytest.raises(InputError, match="finite"):
        fit_pca(np.array([[0.0, 1.0], [np.nan, 2.0]]))


def test_few_rows_are_hardly_whitened_and_many_are():
    spread = np.array([1.0, 0.1])
    rng = np.random.default_rng(0)
    ratios = []
    for n in (10, 100, 10_000):
        pca = fit_pca(rng.normal(size=(n, 2)) * np.sqrt(spread))
        ratios.append(pca.scales[1] / pca.scales[0])
    assert 1 < ratios[0] < ratios[1] < ratios[2]
    assert ratios[2] == pytest.approx(np.sqrt(10), rel=0.1)


def test_the_sampling_error_is_of_the_right_size():
    # oracle: how far the covariance of a sample really is from the true one, in operator norm
    rng = np.random.default_rng(0)
    true = 1.0 / np.arange(1, 201)
    for n in (30, 120, 480):
        off = [
            np.linalg.norm(np.cov((rng.normal(size=(n, 200)) * np.sqrt(true)).T) - np.diag(true), 2)
            for _ in range(10)
        ]
        assert 0.3 < sampling_error(true[0], true.sum(), n) / np.mean(off) < 3


def test_equal_distances_of_full_whitening_are_avoided():
    # whitening by all N - 1 components makes all training rows equally far from each other
    rows_ND = rows(30, 400)
    gaps = []
    for regularisation in (RELJA_REGULARISATION, "auto"):
        out = applied(fit_pca(rows_ND, regularisation=regularisation), rows_ND)
        distance = np.linalg.norm(out[:, None] - out[None], axis=2)[np.triu_indices(30, 1)]
        gaps.append(distance.std() / distance.mean())
    assert gaps[0] < 1e-6 < 0.02 < gaps[1]


def slow_share(rows_ND, folds):
    within = whole = 0.0
    for out in np.array_split(np.arange(len(rows_ND)), folds):
        rest = np.delete(rows_ND, out, axis=0)
        pca = fit_pca(rest, whiten=False)
        away = rows_ND[out] - rest.mean(axis=0)
        within += ((away @ pca.components.T) ** 2).sum()
        whole += (away**2).sum()
    return within / whole


@pytest.mark.parametrize(("n", "d"), [(20, 40), (25, 300), (60, 9)])
def test_held_out_share_is_the_plain_one(n, d):
    rows_ND = rows(n, d)
    assert held_out_share(rows_ND) == pytest.approx(slow_share(rows_ND, 5))


def test_held_out_share_tells_noise_from_structure():
    rng = np.random.default_rng(0)
    structure = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 500))
    assert held_out_share(structure + 0.01 * rng.normal(size=(60, 500))) > 0.95
    assert held_out_share(rng.normal(size=(60, 500))) < 0.2
    with pytest.raises(InputError, match="at least 10 rows"):
        held_out_share(structure[:9])
