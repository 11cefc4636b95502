"""Principal components against NetVLAD's ``relja_PCA``, run in Octave."""

import numpy as np
import pytest
import scipy.io

from dejavlad.numerics import fit_pca
from dejavlad.numerics.pca import RELJA_REGULARISATION
from goldens import golden_path


@pytest.fixture(scope="module")
def golden():
    return scipy.io.loadmat(golden_path("pca.mat"), mat_dtype=False)


@pytest.mark.parametrize(
    ("rows", "directions", "variances", "mean"),
    [("Xtall", "U1", "lam1", "mu1"), ("Xwide", "U2", "lam2", "mu2")],
)
@pytest.mark.parametrize("form", ["auto", "primal", "dual"])
def test_equals_relja_pca(golden, rows, directions, variances, mean, form):
    rows_ND = golden[rows].T
    pca = fit_pca(rows_ND, 5, whiten=False, form=form)
    assert np.allclose(pca.mean, golden[mean][:, 0], atol=1e-6)
    assert np.allclose(pca.variances, golden[variances][:, 0], rtol=1e-5)
    signs = np.sign(np.sum(pca.components.T * golden[directions], axis=0))
    assert np.allclose(pca.components.T * signs, golden[directions], atol=2e-6)


@pytest.mark.parametrize(
    ("rows", "directions", "variances", "mean"),
    [("Xtall", "U1", "lam1", "mu1"), ("Xwide", "U2", "lam2", "mu2")],
)
def test_equals_the_whitening_of_addpca(golden, rows, directions, variances, mean):
    pca = fit_pca(golden[rows].T, 5, regularisation=RELJA_REGULARISATION)
    whitened = golden[directions] / np.sqrt(golden[variances][:, 0] + 1e-9)
    signs = np.sign(np.sum(pca.weight.T * whitened, axis=0))
    assert np.allclose(pca.weight.T * signs, whitened, rtol=1e-4, atol=1e-5)
    assert np.allclose(pca.bias * signs, -(whitened.T @ golden[mean])[:, 0], rtol=1e-4, atol=1e-5)
