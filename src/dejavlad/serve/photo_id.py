"""Keys of photos as they stand in addresses: base64url, so that no key is ever taken for a path."""

from __future__ import annotations

import base64
import binascii

from dejavlad.serve.refusal import Refusal


def photo_id(key: str) -> str:
    """The id of a photo of a map."""
    data = key.encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def image_address(map_name: str, identity: str) -> str:
    """Where the picture of a photo of a map is."""
    return f"/v1/maps/{map_name}/photos/{identity}/image"


def key_of(identity: str) -> str:
    """The key of the photo of an id.

    Raises:
        Refusal: it is no id (404).
    """
    try:
        data = base64.b64decode(identity + "=" * (-len(identity) % 4), altchars=b"-_", validate=True)
        return data.decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError):
        raise Refusal(404, f"there is no photo {identity[:40]!r}") from None
