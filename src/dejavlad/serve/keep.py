"""Photos that were asked about, kept with their answers where the user wants that (`--keep`)."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any, Final

from dejavlad.files import write_whole
from dejavlad.serve.uploads import Upload
from dejavlad.serve.writer import safe_name

WRITING: Final = threading.Lock()
"""Two threads may have the same photo at the same time."""


def keep_photo(folder: Path, upload: Upload, answer: dict[str, Any]) -> None:
    """Write a photo and its answer as JSON; the same photo asked about again in one second lies there once.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now, digest = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), hashlib.sha256(upload.content).hexdigest()
    path = folder / f"{now}-{digest[:10]}-{safe_name(upload.name)}"
    with WRITING:
        write_whole(path, upload.content)
        write_whole(path.with_name(f"{path.name}.json"), json.dumps(answer, indent=1))
