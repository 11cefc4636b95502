"""dejavlad: have I seen this place before? Visual place recognition with NetVLAD and Patch-NetVLAD.

The public names are loaded when first used, so that `import dejavlad` is quick (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dejavlad.lazy import lazy_names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dejavlad import pipelines, report
    from dejavlad.datasets import open_dataset, photos
    from dejavlad.errors import DejavladError
    from dejavlad.evaluation import Result, evaluate
    from dejavlad.extraction import DescriptorStore, merge_stores
    from dejavlad.extraction.extract import extract
    from dejavlad.fitting.fit import fit
    from dejavlad.geo import Position
    from dejavlad.ground_truth import PlaceDataset
    from dejavlad.index import build_index, open_index
    from dejavlad.model import PlaceModel, save_model
    from dejavlad.photo import Photo, PhotoList
    from dejavlad.places import PlaceMap
    from dejavlad.ranking import Ranking
    from dejavlad.rerank import Reranker
    from dejavlad.zoo import load_model

_HOME = {
    "DejavladError": "dejavlad.errors",
    "DescriptorStore": "dejavlad.extraction",
    "Photo": "dejavlad.photo",
    "PhotoList": "dejavlad.photo",
    "PlaceDataset": "dejavlad.ground_truth",
    "PlaceMap": "dejavlad.places",
    "PlaceModel": "dejavlad.model",
    "Position": "dejavlad.geo",
    "Ranking": "dejavlad.ranking",
    "Reranker": "dejavlad.rerank",
    "Result": "dejavlad.evaluation",
    "build_index": "dejavlad.index",
    "evaluate": "dejavlad.evaluation",
    "extract": "dejavlad.extraction",
    "fit": "dejavlad.fitting",
    "load_model": "dejavlad.zoo",
    "merge_stores": "dejavlad.extraction",
    "open_dataset": "dejavlad.datasets",
    "open_index": "dejavlad.index",
    "photos": "dejavlad.datasets",
    "pipelines": "dejavlad",
    "report": "dejavlad",
    "save_model": "dejavlad.model",
}

__all__ = [
    "DejavladError",
    "DescriptorStore",
    "Photo",
    "PhotoList",
    "PlaceDataset",
    "PlaceMap",
    "PlaceModel",
    "Position",
    "Ranking",
    "Reranker",
    "Result",
    "build_index",
    "evaluate",
    "extract",
    "fit",
    "load_model",
    "merge_stores",
    "open_dataset",
    "open_index",
    "photos",
    "pipelines",
    "report",
    "save_model",
]


__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
