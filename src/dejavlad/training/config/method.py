"""The original's names of poolings, as ``vlad_preL2_intra``, and ours."""

from __future__ import annotations

from typing import Any

from dejavlad.errors import InputError, UnknownNameError

GIVEN = "given"
"""The method of a model that keeps the pooling it has."""
CLUSTERS = 64
"""Clusters of the original's NetVLAD layers; an option changes them later."""
DIMS = 512
"""Numbers of a descriptor behind a linear layer; an option changes them later."""
POOLINGS = ("vlad", "vladv2", "max", "avg", "gem")
OPTIONS = ("preL2", "intra", "tied", "linear")


def parse_method(method: str) -> tuple[str, dict[str, Any]] | None:
    """A method to the aggregation's name and options; None for `GIVEN`.

    Equivalent to the grammar of ``addLayers.m``: tokens between underscores, in any order. ``gem``,
    ``gem_linear`` and ``vlad_tied`` (alpha learnt, centres tied) are not its own.

    Raises:
        InputError: no pooling or two, or an option that does not go with it.
        UnknownNameError: a token that is none.
    """
    if method == GIVEN:
        return None
    tokens = set(method.split("_"))
    poolings = sorted(tokens & set(POOLINGS))
    unknown = tokens - {*POOLINGS, *OPTIONS}
    if unknown:
        raise UnknownNameError("part of a method", min(unknown), [*POOLINGS, *OPTIONS, GIVEN])
    if len(poolings) != 1:
        raise InputError(f"a method names one of {', '.join(POOLINGS)}; given {method!r}")
    pooling = poolings[0]
    rest = tokens - {pooling}
    if "linear" in rest and pooling != "gem":
        raise InputError(f"linear goes with gem only; given {method!r}")
    if "linear" in rest:
        rest -= {"linear"}
        if rest - {"preL2"}:
            raise InputError(f"gem_linear goes with preL2 only; given {method!r}")
        return "gem_linear", {"normalize_input": "preL2" in rest, "dims": DIMS}
    if not pooling.startswith("vlad"):
        if rest - {"preL2"}:
            wrong = "_".join(sorted(rest - {"preL2"}))
            raise InputError(f"{wrong} goes with vlad and vladv2 only; given {method!r}")
        return pooling, {"normalize_input": True} if rest else {}
    options = {"clusters": CLUSTERS, "normalize_input": "preL2" in rest, "intra_norm": "intra" in rest}
    if "tied" not in rest:
        return "netvlad", {"version": 2 if pooling == "vladv2" else 1, **options}
    if pooling == "vladv2":
        raise InputError(f"vlad_tied has the biases of vladv2 already; given {method!r}")
    return "netvlad_tied", options
