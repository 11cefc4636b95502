"""The whole weakly supervised training against the original MATLAB code, run under Octave, on toy photos.

Each ``METHOD_after3epochs[_double].mat`` in the golden folder holds what the original's ``trainWeakly.m``
came to: the loss of each batch, recalls and ranking losses, the memory of negatives, and the final network.
With double precision all is compared tightly; in single precision, 64 clusters of 8 dimensions amplify
rounding until late batches are chaotic, so only what comes before that is compared.
"""

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from dejavlad.convert import import_model
from dejavlad.ground_truth import PlaceDataset
from dejavlad.training import TrainConfig, train
from dejavlad.training.run.initial_model import prepare
from dejavlad.training.run.state import State
from goldens import golden_path

pytestmark = pytest.mark.slow

TOY = golden_path("train_toy")
TRAINED = sorted(path.name for path in TOY.glob("*_after3epochs*.mat"))


def test_there_is_something_to_compare_with():
    assert TRAINED, f"no *_after3epochs*.mat in {TOY}"


@pytest.fixture(scope="module", params=TRAINED)
def pair(request, tmp_path_factory):
    """(the original's file, our run, whether both are in double precision)."""
    original = loadmat(TOY / request.param, squeeze_me=True, struct_as_record=False)
    double = request.param.endswith("_double.mat")
    out = tmp_path_factory.mktemp("toy") / "run"
    config = options(original["opts"], double)
    run = train(config, start(config), dataset("train"), dataset("val"), out)
    return original, run, double


def options(opts, double):
    return TrainConfig(
        method=str(opts.method),
        train_from=str(opts.backPropToLayerName),
        batch_size=int(opts.batchSize),
        learning_rate=float(opts.learningRate),
        lr_down_every=int(opts.lrDownFreq),
        lr_down_factor=float(opts.lrDownFactor),
        weight_decay=float(opts.weightDecay),
        momentum=float(opts.momentum),
        negatives="all",
        negatives_used=int(opts.nNegCap),
        negatives_remembered=int(opts.nNegCache),
        epochs=int(opts.nEpoch),
        margin=float(opts.margin),
        exclude_very_hard=bool(opts.excludeVeryHard),
        refresh_every=int(opts.compFeatsFrequency),
        describe_batch=int(opts.computeBatchSize),
        test_queries=0,
        rank_queries=int(opts.nTestRankSample),
        recall_at=tuple(int(n) for n in opts.recallNs),
        query_order="given",
        parity=True,
        precision="fp64" if double else "fp32",
        workers=0,
    )


def start(config):
    """The pretrained network, with the pooling that ``addLayers`` puts on it and the clusters given."""
    model = prepare(import_model(TOY / "imagenet-caffe-ref.mat"), config, dataset("train"))
    if config.precision == "fp64":
        model.double()
    if model.aggregation.needs_fitting:
        clusters = loadmat(TOY / "clusters.mat")
        model.aggregation.initialise(clusters["clsts"].T, clusters["trainDescs"].T)
    return model


def dataset(part):
    spec = loadmat(TOY / f"pitts30k_{part}.mat", squeeze_me=True, struct_as_record=False)["dbStruct"]
    return PlaceDataset.from_arrays(
        [f"images/{name}" for name in spec.dbImageFns],
        spec.utmDb.T,
        [f"queries/{name}" for name in spec.qImageFns],
        spec.utmQ.T,
        radius=float(spec.posDistThr),
        root=TOY,
        name=f"toy-{part}",
    )


def test_losses_of_all_batches(pair):
    original, run, double = pair
    theirs = np.atleast_1d(original["obj"].train.loss)
    ours = np.array(run.losses)
    assert len(ours) == len(theirs) > 5
    if double:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    else:
        np.testing.assert_allclose(ours[:5], theirs[:5], rtol=1e-4)
        assert np.isfinite(ours).all()


@pytest.mark.parametrize("part", ["train", "val"])
def test_recalls_and_rank_losses(pair, part):
    original, run, double = pair
    after, before = getattr(original["obj"], part), getattr(original["obj"].pretrain, part)
    recalls = np.column_stack([before.recall, after.recall])
    rank_losses = np.array([before.rankloss, *after.rankloss])
    tested = run.recalls(part)
    assert list(tested) == list(range(run.config.epochs + 1))
    ns = run.config.recall_at
    if not double:  # the first: all networks are the same then
        recalls, rank_losses, tested = recalls[:, :1], rank_losses[:1], {0: tested[0]}
    np.testing.assert_allclose([[tested[e][n] for e in tested] for n in ns], recalls, atol=1e-12)
    ours = [run.rank_losses(part)[epoch] for epoch in tested]
    np.testing.assert_allclose(ours, rank_losses, rtol=1e-6 if double else 1e-4)


def test_memory_of_the_hardest_negatives(pair):
    original, run, double = pair
    ours = [(rows + 1).tolist() for rows in State.load(run.path).memory]
    theirs = [np.atleast_1d(rows).astype(int).tolist() for rows in original["negCache"]]
    assert [len(rows) for rows in ours] == [len(rows) for rows in theirs]
    if double:
        assert ours == theirs


@pytest.mark.parametrize("pair", [name for name in TRAINED if name.endswith("_double.mat")], indirect=True)
def test_final_weights(pair):
    original, run, _ = pair
    ours = State.load(run.path).tensors
    layers = original["net"].layers
    convolutions = [i for i, layer in enumerate(layers) if layer.type == "conv"]
    for i in convolutions:
        weight = np.asarray(layers[i].weights[0]).transpose(3, 2, 0, 1)
        close(ours[f"model/backbone.features.{i}.weight"], weight)
        close(ours[f"model/backbone.features.{i}.bias"], layers[i].weights[1])
    (core,) = (layer for layer in layers if layer.name.endswith(":core"))
    if core.name == "vlad:core":
        close(ours["model/aggregation.conv.weight"][:, :, 0, 0], core.weights[0].T)
        close(-ours["model/aggregation.centroids"], core.weights[-1].T)
        if len(core.weights) == 3:
            close(ours["model/aggregation.conv.bias"], core.weights[1])


def close(ours: torch.Tensor, theirs: np.ndarray):
    assert ours.dtype == torch.float64
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6, atol=1e-6 * scale)
