"""Re-ranking by patches: mutual matches of patches, how well they agree in space, and what order follows."""

from dejavlad.rerank.fusion import FUSIONS, fuse_sum, fuse_zscores
from dejavlad.rerank.matching import ApproximateMatcher, Matcher, PatchMatch, mutual_nearest
from dejavlad.rerank.nearness import Nearness
from dejavlad.rerank.point_matching import MUTUAL, MutualNearest, PointMatcher, PointMatches
from dejavlad.rerank.point_reranker import PointReranker
from dejavlad.rerank.ransac import METHODS, RansacMatcher
from dejavlad.rerank.rapid import RapidMatcher, rapid_scores
from dejavlad.rerank.reranker import MATCHERS, Reranker
from dejavlad.rerank.shortlist import Shortlist
from dejavlad.rerank.verification import Verified, VerifySetting, verify

__all__ = [
    "FUSIONS",
    "MATCHERS",
    "METHODS",
    "MUTUAL",
    "ApproximateMatcher",
    "Matcher",
    "MutualNearest",
    "Nearness",
    "PatchMatch",
    "PointMatcher",
    "PointMatches",
    "PointReranker",
    "RansacMatcher",
    "RapidMatcher",
    "Reranker",
    "Shortlist",
    "Verified",
    "VerifySetting",
    "fuse_sum",
    "fuse_zscores",
    "mutual_nearest",
    "rapid_scores",
    "verify",
]
