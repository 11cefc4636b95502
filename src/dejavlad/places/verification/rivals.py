"""What comes by chance in a map: what photos of other places have in common with a query.

Two photos far apart may show one scene all the same, as along a corridor or across a square. What such a one
has in common with the query is no chance. It has yet more in common with the best photo itself; photos that
are alike by chance have not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from dejavlad.rerank import Verified

MORE: Final = 1.25
"""A photo shows the best one's scene where it has so many times as many coherent points in common with it as
with the query..."""
ENOUGH: Final = 60
"""...and at least so many: photos of different places seldom have."""
LOOKED_AT: Final = 5
"""Photos that are compared with the best one, at most."""


def rivals(
    best: int,
    compared: Mapping[int, Verified],
    elsewhere: Callable[[int], bool],
    between: Callable[[int, int], Verified],
    *,
    least: int,
) -> list[Verified]:
    """What photos of other places have in common with the query, but for those that show the best's scene.

    Args:
        best: the candidate that is the answer.
        compared: candidate -> what it has in common with the query.
        elsewhere: whether a candidate is known to show another place than the best.
        between: what two candidates have in common.
        least: coherent points up to which it makes no difference.
    """
    others = [at for at in compared if at != best and elsewhere(at)]
    others.sort(key=lambda at: -compared[at].nearness.coherent)
    for place, at in enumerate(others[:LOOKED_AT]):
        theirs = compared[at].nearness.coherent
        if theirs <= least:
            return [compared[rest] for rest in others[place:]]
        if between(best, at).nearness.coherent < max(ENOUGH, MORE * theirs):
            return [compared[rest] for rest in others[place:]]
    return [compared[rest] for rest in others[LOOKED_AT:]]
