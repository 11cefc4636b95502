"""The pages of `--help`: complete, as wide as the terminal, and made from few modules."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from cyclopts import App

from dejavlad.cli import build_app, main
from dejavlad.cli.help_page import INDENT, help_page
from dejavlad.cli.verbs import VERBS, help_text

EXAMPLE = " " * 4 + "dejavlad "


def commands(app: App, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All commands, and those that hold others."""
    for name in app:
        if not name.startswith("-"):
            yield (*above, name)
            yield from commands(app[name], (*above, name))


COMMANDS = tuple(commands(build_app()))


def page_of(*words: str) -> str:
    page = help_page(build_app(), [*words, "--help"])
    assert page is not None
    return page


def test_help_loads_few_modules() -> None:
    code = (
        "import sys, json; from dejavlad.cli import main\n"
        "for words in json.loads(sys.argv[1]): main(words)\n"
        "print(); print(json.dumps(sorted(sys.modules)))"
    )
    words = [[*command, "--help"] for command in COMMANDS]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(words)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = json.loads(done.stdout.splitlines()[-1])
    tops = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    assert not tops & {"numpy", "torch", "rich", "markdown_it", "docstring_parser", "PIL"}
    rooms = {name for name in modules if re.match(r"dejavlad\.(?!cli)", name)}
    assert len(rooms) <= 10, rooms  # of the library: errors, settings and what these read
    assert len(modules) < 270  # 440 with the command library's own pages


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_page_tells_each_option_as_it_is_written(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    page = page_of(*command)
    _, apps, _ = build_app().parse_commands(list(command))
    words = " ".join(page.split())
    assert page.startswith(f"Usage: dejavlad {' '.join(command)}")
    assert EXAMPLE + " ".join(command) in page or apps[-1].default_command is None
    if apps[-1].default_command is None:
        assert all(f"\n  {name} " in page for name in apps[-1] if not name.startswith("-"))
        return
    assert "--quiet" in page and ("--json" in page or command == ("serve",))  # it answers over HTTP
    for argument in apps[-1].assemble_argument_collection(parse_docstring=True):
        if argument.show:
            assert argument.parameter.help, argument.names
            assert " ".join(argument.parameter.help.split()) in words
            assert argument.index is not None or all(name in page for name in argument.names)
            assert all(choice in words for choice in argument.get_choices() or ())


@pytest.mark.parametrize("columns", [10, 80, 120])
def test_a_page_is_as_wide_as_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = [
        line
        for command in COMMANDS
        for line in page_of(*command).splitlines()
        if not line.startswith((EXAMPLE, "Usage: "))
    ]
    width = max(60, min(columns, 110))
    assert 0.9 * width < max(map(len, lines)) <= width
    assert all(line == line.rstrip() and "\033" not in line for line in lines)
    assert any(line.startswith(" " * INDENT) for line in lines)


def test_a_terminal_shows_titles_bold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(os, "name", "posix")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain = re.sub(r"\033\[[01]m", "", page_of("compare"))
    assert "\033[1mUsage:\033[0m" in page_of("compare")
    monkeypatch.setenv("NO_COLOR", "1")
    assert page_of("compare") == plain


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mpa", "--help"), 'Unknown command "mpa". Did you mean "map"?'),
        (("map", "biuld"), "(see: dejavlad map --help)"),
        (("map", "info", "town.map", "--", "-h"), "(see: dejavlad map info --help)"),
        (("locate",), "(see: dejavlad locate --help)"),
    ],
)
def test_a_mistyped_command_is_told(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and message in err


def test_a_command_of_commands_shows_its_page_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map"]) == 0
    by_name = capsys.readouterr().out
    assert main(["map", "-h"]) == 0
    assert capsys.readouterr().out == by_name


def test_usage_says_what_must_be_given() -> None:
    assert page_of("extract").splitlines()[0] == "Usage: dejavlad extract MODEL PHOTOS --out PATH [OPTIONS]"
    assert page_of("map").splitlines()[0] == "Usage: dejavlad map COMMAND"
    assert page_of("models").splitlines()[0] == "Usage: dejavlad models [NAME] [OPTIONS]"
    assert page_of("locate").splitlines()[0] == "Usage: dejavlad locate MAP PHOTO... [OPTIONS]"
    assert "--seed N                Seed of all that is drawn at random. [default: 0]" in page_of("verify")


def test_the_first_page_fits_a_small_terminal() -> None:
    assert max(map(len, help_text().splitlines())) <= 80


def test_each_verb_has_a_page() -> None:
    assert len(COMMANDS) >= 30 and {("explain",), ("dataset", "protocols"), ("map", "add")} <= set(COMMANDS)
    assert {name for verbs in VERBS.values() for name, _, _ in verbs} == {words[0] for words in COMMANDS}
