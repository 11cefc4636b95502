"""The page of `dejavlad COMMAND --help`: plain text, examples as they are typed, options in their own order.

Made from what the command library knows of the options; its own page takes twice the time.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.argument import Argument

FLAGS: Final = frozenset(("--help", "-h"))
PARAMETERS: Final = "Parameters\n----------\n"
"""What stands above a docstring's parameters."""
NARROWEST, WIDEST = 60, 110
"""Columns of a page; longer lines are hard to read."""
INDENT: Final = 26
"""Columns of the options' names; a longer name has a line of its own."""
TITLES: Final = {"Parameters": "Options"}
"""What groups of the command library are called here."""
VALUES: Final = {bool: "", str: "TEXT", int: "N", float: "NUMBER", Path: "PATH"}
"""Type -> what stands for a value of it."""


def help_page(app: App, words: Sequence[str]) -> str | None:
    """The page that these words of the command ask for, as wide as the terminal; None if they ask for none.

    A command of commands, such as `dejavlad map`, asks for its page by its name alone.

    Raises:
        CycloptsError: there is no such command.
    """
    ahead = list(itertools.takewhile(lambda word: word != "--", words))
    chain, apps, rest = app.parse_commands([word for word in ahead if word not in FLAGS])
    verb, arguments = apps[-1], []
    if verb.default_command is not None:
        if FLAGS.isdisjoint(ahead):
            return None
        arguments = list(verb.assemble_argument_collection())
    elif rest:
        app.parse_args([*chain, *rest], exit_on_error=False, print_error=False)  # which says what is valid
    texts = _texts(verb.default_command.__doc__ or "" if verb.default_command else "", arguments)
    shown = [argument for argument in arguments if argument.show]
    sections: dict[str, list[tuple[str, str]]] = {}
    for argument in shown:
        title = argument.parameter.group[0].name  # type: ignore[index]
        row = (_label(argument), _description(argument, texts.get(argument.names, "")))
        sections.setdefault(TITLES.get(title, title), []).append(row)
    if commands := [name for name in verb if not name.startswith("-")]:
        sections["Commands"] = [(name, next(_paragraphs(verb[name].help))) for name in commands]
    name = " ".join(["dejavlad", *chain])
    width = max(NARROWEST, min(shutil.get_terminal_size().columns, WIDEST))
    blocks = [f"{_strong('Usage:')} {verb.usage or _usage(name, shown, bool(commands))}"]
    blocks += [_filled(paragraph, width) for paragraph in _paragraphs(verb.help)]
    blocks += [_section(title, rows, width) for title, rows in sections.items()]
    if commands:
        blocks.append(f"`{name} COMMAND --help` tells a command's options.")
    return "\n\n".join(blocks)


def _usage(name: str, arguments: Sequence[Argument], commands: bool) -> str:
    """How it is called: arguments by their place, then the options that must be given."""
    words = ["COMMAND"] if commands and not arguments else []
    for argument in sorted(arguments, key=lambda argument: argument.index is None):
        if argument.required:
            words.append(_label(argument))
        elif argument.index is not None:
            words.append(f"[{_label(argument)}]")
    if any(argument.index is None and not argument.required for argument in arguments):
        words.append("[OPTIONS]")
    return " ".join([name, *words])


def _label(argument: Argument) -> str:
    """The names of an option and what it takes; an argument's name in capitals."""
    value = _value(argument.hint)
    if argument.index is not None:
        return argument.name.lstrip("-").upper() + "..." * value.endswith("...")
    names = [name for name in argument.names if name not in argument.negatives]
    return " / ".join([f"{', '.join(names)} {value}".strip(), *argument.negatives])


def _value(hint: Any) -> str:
    """What an option takes, by its type: PATH, N, CHOICE ...; empty for a flag."""
    parts = [part for part in get_args(hint) if part is not NoneType]
    if not parts:
        return VALUES[hint]
    if isinstance(parts[0], str):
        return "CHOICE"
    return f"{_value(parts[0])}..." if get_origin(hint) in (list, tuple) else "|".join(map(_value, parts))


def _description(argument: Argument, text: str) -> str:
    """What it is for, its choices and its default."""
    default = argument.field_info.default
    facts = []
    if choices := argument.get_choices():
        facts.append(f"choices: {', '.join(choices)}")
    if argument.required and argument.index is None:
        facts.append("required")
    elif not (default is None or default is False or default in ("", argument.field_info.empty)):
        facts.append(f"default: {default}")
    text = argument.parameter.help or text
    return f"{text} [{'; '.join(facts)}]" if facts else text


def _texts(docstring: str, arguments: Sequence[Argument]) -> dict[tuple[str, ...], str]:
    """What the verb's docstring says of its parameters, and the strings below the fields of its options.

    The command library's own reader of these takes longer than all else.
    """
    _, _, below = inspect.cleandoc(docstring).partition(PARAMETERS)
    parameters = dict(re.findall(r"^(\w+)\n((?:[ \n].*\n?)+)", below, re.MULTILINE))
    texts: dict[tuple[str, ...], str] = {}
    for argument in arguments:
        if argument.children:
            fields = _field_texts(argument.hint)
            texts |= {child.names: fields.get(child.keys[-1], "") for child in argument.children}
        elif not argument.keys:
            texts[argument.names] = parameters.get(argument.field_info.name, "")
    return texts


def _field_texts(options: type) -> dict[str, str]:
    """Field -> the string below it, of a class and those it extends."""
    texts: dict[str, str] = {}
    for kind in options.__mro__[:-1]:
        body = _classes(kind.__module__).get(kind.__name__, [])
        for field, below in itertools.pairwise(body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                    texts[name] = text
    return texts


@cache
def _classes(module: str) -> dict[str, list[ast.stmt]]:
    """Class -> its body, of a module's source, which is read once."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except OSError:  # a program that was packed without its source: options go without their texts
        return {}
    return {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}


def _paragraphs(docstring: str) -> Iterator[str]:
    """Those above a docstring's parameters; an example in the text becomes one by itself."""
    text = inspect.cleandoc(docstring).partition(PARAMETERS)[0].strip()
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("Example: "):
            examples = re.findall("`([^`]+)`", paragraph)
            yield "Example:" if len(examples) == 1 else "Examples:"
            yield "\n".join(f"    {example}" for example in examples)
        else:
            yield paragraph


def _filled(paragraph: str, width: int) -> str:
    """Lines of text filled up; examples as they are."""
    if paragraph.startswith("    "):
        return paragraph
    return textwrap.fill(" ".join(paragraph.split()), width, break_long_words=False, break_on_hyphens=False)


def _section(title: str, rows: Sequence[tuple[str, str]], width: int) -> str:
    """Options and what they are for, in two columns."""
    lines = [_strong(f"{title}:")]
    for label, text in rows:
        column = textwrap.indent(_filled(text.strip(), width - INDENT), " " * INDENT)
        if len(label) + 4 > INDENT:
            lines += [f"  {label}", column]
        else:
            lines.append(f"  {label}{column[len(label) + 2 :]}")
    return "\n".join(lines)


def _strong(text: str) -> str:
    """Bold on a terminal that shows it."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb" or os.name == "nt"
    return text if plain or not sys.stdout.isatty() else f"\033[1m{text}\033[0m"
