"""Re-ranking by patches: mutual matches of patches, how well they agree in space, and what order follows."""

from dejavlad.rerank.fusion import FUSIONS, fuse_sum, fuse_zscores
from dejavlad.rerank.matching import Match, Matcher, RoughMatcher, mutual_nearest
from dejavlad.rerank.ransac import METHODS, RansacMatcher
from dejavlad.rerank.rapid import RapidMatcher, rapid_scores
from dejavlad.rerank.reranker import MATCHERS, Reranker
from dejavlad.rerank.shortlist import Shortlist

__all__ = [
    "FUSIONS",
    "MATCHERS",
    "METHODS",
    "Match",
    "Matcher",
    "RansacMatcher",
    "RapidMatcher",
    "Reranker",
    "RoughMatcher",
    "Shortlist",
    "fuse_sum",
    "fuse_zscores",
    "mutual_nearest",
    "rapid_scores",
]
