"""Networks of the originals, imported, give the originals' answers.

The MATLAB code trained a toy network for three epochs (under Octave) and noted its recalls on photos that are
here; Patch-NetVLAD's layer and whitening were run on feature maps that are here.
"""

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from dejavlad.aggregation import NetVLAD
from dejavlad.convert import import_model
from dejavlad.evaluation import evaluate
from dejavlad.geo import Position
from dejavlad.ground_truth import truth_positions
from dejavlad.model import Whitening
from dejavlad.ranking import Ranking
from goldens import golden_path

TOY = golden_path("train_toy")
TRAINED = sorted(path.name for path in TOY.glob("*_after3epochs*.mat"))


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("part", ["val", "train"])
def test_recall_of_the_trained_toy_network(name, part):
    model = import_model(TOY / name)
    spec = loadmat(TOY / f"pitts30k_{part}.mat", squeeze_me=True, struct_as_record=False)["dbStruct"]
    rows = {}
    for which, folder in (("dbImageFns", "images"), ("qImageFns", "queries")):
        rows[which] = model.encode([TOY / folder / str(path) for path in getattr(spec, which)], batch_size=1)
    away = 2 - 2 * (rows["qImageFns"] @ rows["dbImageFns"].T).astype(float)
    indices = away.argsort(axis=1, kind="stable")
    database, queries = (
        [Position(east, north) for east, north in utm.T.tolist()] for utm in (spec.utmDb, spec.utmQ)
    )
    truth = truth_positions(database, queries, float(spec.posDistThr))
    ns = [n for n in (*range(1, 6), *range(10, 101, 5)) if n <= len(database)]
    result = evaluate(Ranking(indices, np.take_along_axis(away, indices, 1)), truth, recall_at=ns)
    original = loadmat(TOY / name, squeeze_me=True, struct_as_record=False)["obj"]
    expected = getattr(original, part).recall[: len(ns), -1]
    assert list(result.recall.values()) == pytest.approx(expected.tolist(), abs=1e-12)


def test_global_descriptors_of_patchnetvlad():
    golden = np.load(golden_path("patchnetvlad.npz"))
    clusters, dim = golden["centroids"].shape
    layer = NetVLAD(dim, clusters)
    whitening = Whitening(clusters * dim, len(golden["wpca_bias"]))
    with torch.no_grad():
        layer.centroids.copy_(torch.from_numpy(golden["centroids"]))
        layer.conv.weight.copy_(torch.from_numpy(golden["assign"])[:, :, None, None])
        whitening.weight.copy_(torch.from_numpy(golden["wpca_weight"]))
        whitening.bias.copy_(torch.from_numpy(golden["wpca_bias"]))
        descriptors = layer(torch.from_numpy(golden["feats"]))
        np.testing.assert_allclose(descriptors.numpy(), golden["glob"], atol=1e-5)
        np.testing.assert_allclose(whitening(descriptors).numpy(), golden["white_glob"], atol=1e-5)
