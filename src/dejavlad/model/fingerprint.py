"""What a model is, as one number: SHA-256 of its description and its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from torch import Tensor


def hash_of(text: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a text and of named tensors, whatever their order and device; whole numbers do not count."""
    digest = hashlib.sha256(text.encode())
    for key, tensor in sorted(tensors.items()):
        if tensor.is_floating_point():
            digest.update(json.dumps([key, str(tensor.dtype), list(tensor.shape)]).encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
