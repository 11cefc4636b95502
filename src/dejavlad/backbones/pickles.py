"""What a checkpoint's pickles would make, weighed before anything is made of them.

``torch.load(weights_only=True)`` executes nothing, yet a pickle of a hundred bytes can nest one tuple in
itself again and again: as the key of a dict, it is hashed twice as often on each level. So opcodes are read
first, and each value is counted as often as it would be walked through.
"""

from __future__ import annotations

import io
import pickletools
from pathlib import Path
from typing import IO, cast

from dejavlad.guarded.plain_file import BoundedReader, open_regular
from dejavlad.guarded.zip_archive import is_zip, open_zip

MOST = 10_000_000
"""So many values may be walked through; checkpoints of large networks have thousands."""
PICKLES = 5
"""In files from before PyTorch 1.6: two numbers, the system, the values, and names of storages."""


class HugePickleError(ValueError):
    """A pickle would make far more than its bytes can hold."""


def check_pickles(path: Path) -> None:
    """Weigh the pickles of a checkpoint.

    Raises:
        HugePickleError: they would make too much.
        ValueError: they are no pickles, or the archive is damaged.
        OSError: it cannot be read.
    """
    if is_zip(path):
        with open_zip(path) as archive:
            for name, member in archive.members.items():
                if member.file_size > archive.size:
                    raise HugePickleError("it is compressed, as no archive of PyTorch's is")
                if name.endswith(".pkl"):
                    _weigh(io.BytesIO(archive.read(name)))
        return
    with open_regular(path) as file:
        stream = BoundedReader(file, path.stat().st_size)
        for _ in range(PICKLES):
            _weigh(stream)


def _weigh(stream: IO[bytes] | BoundedReader) -> None:
    """Walk through one pickle's opcodes with weights in place of values."""
    stack: list[int | None] = []  # None is a mark
    memo: dict[int, int] = {}
    for opcode, argument, _ in pickletools.genops(cast("IO[bytes]", stream)):
        name = opcode.name
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else _number(argument)] = _top(stack)
            continue
        if name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo.get(_number(argument), 1))
            continue
        if name == "DUP":
            stack.append(_top(stack))
            continue
        if name == "MARK":
            stack.append(None)
            continue
        weight = 1
        for kind in reversed(opcode.stack_before):
            if kind is pickletools.stackslice:
                continue
            if kind is pickletools.markobject:
                while stack and (top := stack.pop()) is not None:
                    weight += top
            elif stack:
                weight += stack.pop() or 0
        if weight > MOST:
            raise HugePickleError("it nests values in themselves, to far more than its bytes can hold")
        stack += [weight] * len(opcode.stack_after)


def _top(stack: list[int | None]) -> int:
    return (stack[-1] if stack else None) or 1


def _number(argument: object) -> int:
    return int(str(argument))
