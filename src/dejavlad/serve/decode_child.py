"""The process in which hostile photos do their harm: it decodes each once and says how that went.

Run as ``python -m dejavlad.serve.decode_child MEGABYTES PIXELS``; it reads on standard input, again and
again, 8 bytes with a length and as many of a photo, and writes one line of JSON for each. It has no more
memory than it is given, and whoever started it ends it when it takes too long.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any

from dejavlad.errors import PhotoError
from dejavlad.images import read_image
from dejavlad.images.read import read_size
from dejavlad.serve.upload_file import as_file
from dejavlad.settings import PREFIX


def look(content: bytes) -> dict[str, Any]:
    """How decoding a photo goes: its upright size, or the reason why not."""
    try:
        with as_file(content) as path:
            try:
                height, width = read_size(path)
                read_image(path)
            except PhotoError as error:
                return {"reason": error.reason}
            return {"size": [height, width]}
    except MemoryError:
        return {"reason": "it needs more memory to decode than is allowed"}


def limit_memory(megabytes: int) -> None:
    """Let this process have no more address space than that, where the system can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> int:
    """Answer until standard input ends."""
    megabytes, pixels = map(int, sys.argv[1:3])
    os.environ[PREFIX + "MAX_PIXELS"] = str(pixels)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a decoder prints goes elsewhere
    limit_memory(megabytes)
    questions = sys.stdin.buffer
    answers.write(b'{"ready": true}\n')
    while len(head := questions.read(8)) == 8:
        content = questions.read(int.from_bytes(head, "big"))
        started = time.process_time()
        answer = look(content)
        answer["seconds"] = time.process_time() - started
        answers.write(json.dumps(answer).encode("ascii") + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
