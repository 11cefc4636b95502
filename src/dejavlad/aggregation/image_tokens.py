"""ImAge, implicit aggregation (Lu et al., NeurIPS 2025): the backbone's learnt tokens are the descriptor."""

from __future__ import annotations

from torch import Tensor

from dejavlad.aggregation.head import Head
from dejavlad.errors import InputError


class ImageTokens(Head):
    """Tokens one after the other.

    Args:
        dim: D, channels of a token.
        tokens: how many.

    Raises:
        InputError: fewer than 1.
    """

    name = "image_tokens"
    grid = False

    def __init__(self, dim: int, tokens: int = 8) -> None:
        super().__init__(dim, "ImAge", numbers=tokens * dim, tokens=tokens)
        self.tokens = tokens

    def head(self, feat_NDT: Tensor) -> Tensor:
        """Descriptors [N, tokens * D], token by token; not yet of unit length."""
        if feat_NDT.shape[2] != self.tokens:
            raise InputError(
                f"ImAge takes {self.tokens} tokens that its backbone has learnt; given {feat_NDT.shape[2]}"
            )
        return feat_NDT.transpose(1, 2).flatten(1)
