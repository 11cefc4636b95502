"""The command `dejavlad`: one thin file a verb; each parses, calls one function and prints.

Exit status: 0 done, 1 failed with a one-line reason on standard error, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from dejavlad import __version__
from dejavlad.cli import (
    compare,
    config,
    dataset,
    demo,
    evaluate,
    explain,
    export,
    extract,
    locate,
    loops,
    map_,
    match,
    models,
    pairs,
    rerank,
    train,
    whiten,
)
from dejavlad.cli.options import MAX_PIXELS
from dejavlad.cli.terminal import complain, remember
from dejavlad.errors import DejavladError

HELP = """Have I seen this place before? Recognise places from photographs.

Start with *dejavlad demo*, or with photos of your own:

    dejavlad map build photos/ --out town.map
    dejavlad locate town.map where_was_this.jpg
"""


def build_app() -> App:
    """The command line as a tree of verbs."""
    app = App(
        name="dejavlad",
        help=HELP,
        version=__version__,
        help_format="markdown",
        suppress_keyboard_interrupt=False,
    )
    app.command(demo.demo)
    app.command(models.app)
    app.command(models.import_, name="import")
    app.command(models.verify)
    app.command(export.export)
    app.command(extract.extract)
    app.command(map_.app)
    app.command(locate.locate)
    app.command(evaluate.evaluate)
    app.command(rerank.rerank)
    app.command(match.match)
    app.command(train.train)
    app.command(whiten.whiten)
    app.command(dataset.app)
    app.command(compare.compare)
    app.command(explain.explain)
    app.command(pairs.pairs)
    app.command(loops.loops)
    app.command(config.config)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given words (default: the process's own).

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    remember(words)
    most_pixels = os.environ.get(MAX_PIXELS)
    try:
        build_app()(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return complain(f"{error}".strip(), hint=f"dejavlad {_verb(words)}--help", status=2)
    except DejavladError as error:
        return complain(str(error))
    except KeyboardInterrupt:
        return complain("interrupted; what was done is kept: run the same command again to go on", status=130)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (nobody reads on)
        return 1
    except OSError as error:
        return complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    finally:  # --max-pixels holds for this command
        os.environ.pop(MAX_PIXELS, None)
        if most_pixels is not None:
            os.environ[MAX_PIXELS] = most_pixels
    return 0


def _verb(words: Sequence[str]) -> str:
    verb: list[str] = []
    for word in words:
        if word.startswith("-") or len(verb) == 2:
            break
        verb.append(word)
    known = verb[:2] if verb[:1] in (["map"], ["dataset"], ["models"]) else verb[:1]
    return " ".join(known) + " " if known else ""
