"""Photos that were asked about, kept with their answers where the user wants that (`--keep`)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from dejavlad.serve.uploads import Upload
from dejavlad.serve.writer import now_text, safe_name, write_whole


def keep_photo(folder: Path, upload: Upload, answer: dict[str, Any]) -> None:
    """Write a photo and its answer as JSON; the same photo asked about again in one second lies there once.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(upload.content).hexdigest()[:10]
    name = f"{now_text()}-{digest}-{safe_name(upload.name)}"
    write_whole(folder / name, upload.content)
    write_whole(folder / f"{name}.json", json.dumps(answer, indent=1).encode("ascii"))
