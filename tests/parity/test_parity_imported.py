"""Networks of the originals, imported, give the originals' answers.

The MATLAB code trained a toy network for three epochs (under Octave) and noted its recalls on photos that are
here; Patch-NetVLAD's layer and whitening were run on feature maps that are here.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from dejavlad.aggregation import NetVLAD
from dejavlad.datasets import truth_positions
from dejavlad.evaluation import evaluate
from dejavlad.geo import Position
from dejavlad.model import Whitening
from dejavlad.model.importers import import_model
from dejavlad.ranking import Ranking

GOLDEN = Path(os.environ.get("DEJAVLAD_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))
TRAINED = sorted(path.name for path in (GOLDEN / "train_toy").glob("*_after3epochs*.mat"))


def golden(name):
    if not (GOLDEN / name).exists():
        pytest.skip(f"there is no {GOLDEN / name} (DEJAVLAD_GOLDEN names the golden folder)")
    return GOLDEN / name


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("part", ["val", "train"])
def test_recall_of_the_trained_toy_network(name, part):
    toy = golden("train_toy")
    model = import_model(toy / name)
    spec = loadmat(toy / f"pitts30k_{part}.mat", squeeze_me=True, struct_as_record=False)["dbStruct"]
    rows = {}
    for which, folder in (("dbImageFns", "images"), ("qImageFns", "queries")):
        rows[which] = model.encode([toy / folder / str(one) for one in getattr(spec, which)], batch_size=1)
    away = 2 - 2 * (rows["qImageFns"] @ rows["dbImageFns"].T).astype(float)
    indices = away.argsort(axis=1, kind="stable")
    database, queries = (
        [Position(east, north) for east, north in utm.T.tolist()] for utm in (spec.utmDb, spec.utmQ)
    )
    truth = truth_positions(database, queries, float(spec.posDistThr))
    ns = [n for n in (*range(1, 6), *range(10, 101, 5)) if n <= len(database)]
    result = evaluate(Ranking(indices, np.take_along_axis(away, indices, 1)), truth, recall_at=ns)
    told = loadmat(toy / name, squeeze_me=True, struct_as_record=False)["obj"]
    expected = getattr(told, part).recall[: len(ns), -1]
    assert list(result.recall.values()) == pytest.approx(expected.tolist(), abs=1e-12)


def test_global_descriptors_of_patchnetvlad():
    told = np.load(golden("patchnetvlad.npz"))
    clusters, dim = told["centroids"].shape
    layer = NetVLAD(dim, clusters)
    whitening = Whitening(clusters * dim, len(told["wpca_bias"]))
    with torch.no_grad():
        layer.centroids.copy_(torch.from_numpy(told["centroids"]))
        layer.conv.weight.copy_(torch.from_numpy(told["assign"])[:, :, None, None])
        whitening.weight.copy_(torch.from_numpy(told["wpca_weight"]))
        whitening.bias.copy_(torch.from_numpy(told["wpca_bias"]))
        found = layer(torch.from_numpy(told["feats"]))
        np.testing.assert_allclose(found.numpy(), told["glob"], atol=1e-5)
        np.testing.assert_allclose(whitening(found).numpy(), told["white_glob"], atol=1e-5)
