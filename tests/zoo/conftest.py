"""Models as users have them."""

import pytest

from dejavlad.zoo import off_the_shelf


@pytest.fixture(autouse=True)
def policies_of_users(look_at_small_photos: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The default sizes of photos, which are smaller in all other tests."""
    for backbone, policy in look_at_small_photos.items():
        monkeypatch.setitem(off_the_shelf.RESIZE, backbone, policy)  # type: ignore[arg-type]
