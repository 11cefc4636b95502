"""dejavlad: have I seen this place before? Visual place recognition with NetVLAD and Patch-NetVLAD.

The public names are loaded when first used, so that `import dejavlad` is quick (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dejavlad.lazy import lazy_names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dejavlad import pipelines as pipelines
    from dejavlad import report as report
    from dejavlad.datasets import open_dataset as open_dataset
    from dejavlad.datasets import photos as photos
    from dejavlad.errors import DejavladError as DejavladError
    from dejavlad.evaluation import Result as Result
    from dejavlad.evaluation import evaluate as evaluate
    from dejavlad.extraction import DescriptorStore as DescriptorStore
    from dejavlad.extraction import merge_stores as merge_stores
    from dejavlad.extraction.extract import extract as extract
    from dejavlad.fitting.fit import fit as fit
    from dejavlad.geo import Position as Position
    from dejavlad.ground_truth import PlaceDataset as PlaceDataset
    from dejavlad.index import build_index as build_index
    from dejavlad.index import open_index as open_index
    from dejavlad.model import PlaceModel as PlaceModel
    from dejavlad.model import save_model as save_model
    from dejavlad.photo import Photo as Photo
    from dejavlad.photo import PhotoList as PhotoList
    from dejavlad.places import PlaceMap as PlaceMap
    from dejavlad.ranking import Ranking as Ranking
    from dejavlad.rerank import Reranker as Reranker
    from dejavlad.zoo import load_model as load_model

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "": ("pipelines", "report"),
        "datasets": ("open_dataset", "photos"),
        "errors": ("DejavladError",),
        "evaluation": ("Result", "evaluate"),
        "extraction": ("DescriptorStore", "merge_stores"),
        "extraction.extract": ("extract",),
        "fitting.fit": ("fit",),
        "geo": ("Position",),
        "ground_truth": ("PlaceDataset",),
        "index": ("build_index", "open_index"),
        "model": ("PlaceModel", "save_model"),
        "photo": ("Photo", "PhotoList"),
        "places": ("PlaceMap",),
        "ranking": ("Ranking",),
        "rerank": ("Reranker",),
        "zoo": ("load_model",),
    },
)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
