"""Two photos compared by local features, for `POST /v1/match`; for the computing thread alone."""

from __future__ import annotations

from typing import Any, Final

from dejavlad.local import LocalExtractor
from dejavlad.photo import Photo
from dejavlad.places.verification.confidence import reason
from dejavlad.places.verification.point_pair import match_points
from dejavlad.places.verification.points import PointSetting
from dejavlad.rerank import PointReranker

SETTINGS: Final = 8
"""Settings of which what makes the features is kept."""


class PairMatcher:
    """Compares photos; what makes the features of a kind is kept.

    Args:
        device: where networks compute.
    """

    def __init__(self, device: Any) -> None:
        self.device = device
        self._made: dict[PointSetting, tuple[LocalExtractor, PointReranker]] = {}

    def __call__(self, query: Photo, candidate: Photo, verify: PointSetting | str) -> dict[str, Any]:
        """What two photos have in common, for JSON.

        Raises:
            PhotoError: one cannot be read.
        """
        extractor, reranker = self._maker(verify)
        pair = match_points(extractor, query, candidate, reranker)
        points_q, points_c = pair.points()
        fields = pair.to_dict()
        fields["query"], fields["candidate"] = _shown(query), _shown(candidate)
        fields["reason"] = reason(pair.evidence, _shown(candidate))
        fields["sizes"] = [list(features.size) for features in pair.features]
        fields["features"] = extractor.kind
        fields["blank"] = {
            _shown(query) if k == query.key else _shown(candidate): v for k, v in pair.blank.items()
        }
        fields["pairs"] = [
            [round(float(number), 2) for number in (*of_query, *of_candidate)]
            for of_query, of_candidate in zip(points_q, points_c, strict=True)
        ]
        return fields

    def _maker(self, verify: PointSetting | str) -> tuple[LocalExtractor, PointReranker]:
        setting = (PointSetting(verify) if isinstance(verify, str) else verify).chosen()
        if setting not in self._made:
            while len(self._made) >= SETTINGS:
                self._made.pop(next(iter(self._made)))
            self._made[setting] = setting.extractor(device=self.device), setting.reranker()
        return self._made[setting]


def _shown(photo: Photo) -> str:
    """A photo's name without the number that keeps it apart from others."""
    return photo.name.partition("/")[2] if photo.name.startswith(("0/", "1/")) else photo.key
