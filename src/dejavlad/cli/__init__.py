"""The command `dejavlad`: one thin file a verb; each parses, calls one function and prints.

Exit status: 0 done, 1 failed with a one-line reason on standard error, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dejavlad import __version__
from dejavlad.cli.verbs import HELP, VERBS, help_text

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError


def build_app() -> App:
    """The command line as a tree of verbs; a verb's module is imported when it is called."""
    from cyclopts import App

    app = App(
        name="dejavlad",
        help=HELP,
        version=__version__,
        suppress_keyboard_interrupt=False,
    )
    for name, path, _ in (verb for verbs in VERBS.values() for verb in verbs):
        app.command(f"dejavlad.cli.{path}", name=name)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given words (default: the process's own).

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words in (["--help"], ["-h"]):  # at once: nothing that a verb needs is imported
        print(help_text())
        return 0
    if words == ["--version"]:
        print(__version__)
        return 0
    # Threads of PyTorch that wait for work (libgomp's) sleep, rather than keep a processor from others.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from cyclopts import CycloptsError

    from dejavlad.cli.help_page import help_page
    from dejavlad.cli.options import MAX_PIXELS
    from dejavlad.cli.terminal import complain, remember
    from dejavlad.errors import DejavladError

    remember(words)
    log = logging.getLogger("dejavlad")
    level = log.level
    if "--quiet" in words:
        log.setLevel(logging.ERROR)
    app = build_app()
    most_pixels = os.environ.get(MAX_PIXELS)
    try:
        if page := help_page(app, words):
            print(page)
            return 0
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        verb, _, _ = app.parse_commands(words)
        return complain(_usage(error), hint=" ".join(["dejavlad", *verb, "--help"]), status=2)
    except DejavladError as error:
        return complain(str(error))
    except KeyboardInterrupt:
        return complain("interrupted; what was done is kept: run the same command again to go on", status=130)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (nobody reads on)
        return 1
    except OSError as error:
        return complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    finally:  # --quiet and --max-pixels hold for this command
        log.setLevel(level)
        os.environ.pop(MAX_PIXELS, None)
        if most_pixels is not None:
            os.environ[MAX_PIXELS] = most_pixels
    return 0


def _usage(error: CycloptsError) -> str:
    """What is wrong with the words of a command, in a line."""
    from cyclopts.exceptions import UnusedCliTokensError

    if not isinstance(error, UnusedCliTokensError) or not error.unused_tokens:
        return f"{error}".strip()
    first, *rest = error.unused_tokens
    text = f"unexpected words: {first!r} and {len(rest):,} more" if rest else f"unexpected word {first!r}"
    photos = "; photos are given as one folder, or as a text file with one path a line"
    return text + (photos if Path(first).exists() else "")
