"""The frame of a page: one HTML file that needs nothing else and may ask for nothing.

Its content security policy forbids every request and every script and style but its own, which it names by
their hashes: even a name that got past the escaping could not run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dejavlad.files import write_whole
from dejavlad.report.style import ICON, SCRIPT, STYLE
from dejavlad.report.text import escape, label


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page, with a heading and an entry in its contents."""

    id: str
    """Its anchor: letters only."""
    title: str
    """Its heading, as plain text."""
    html: str
    """What stands below the heading."""
    lead: str = ""
    """A sentence below the heading, as HTML."""


def page(title: str, intro: str, sections: Sequence[Section | None], *, pictures: str = "") -> str:
    """The whole page; None among the sections is left out.

    Args:
        title: plain text.
        intro: HTML below the title.
        sections: what it tells, in order.
        pictures: the style rules of `Thumbnails.css`.
    """
    shown = [section for section in sections if section is not None]
    contents = "".join(f'<a href="#{section.id}">{escape(section.title)}</a>' for section in shown)
    body = "\n".join(_section(section) for section in shown)
    styles = [STYLE, pictures] if pictures else [STYLE]
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            "style-src " + " ".join(_hash(style) for style in styles),
            f"script-src {_hash(SCRIPT)}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    sheets = "\n".join(f"<style>{style}</style>" for style in styles)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="dejavlad">
<title>{label(title)}</title>
<link rel="icon" href="{ICON}">
{sheets}
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<div class="bar"><span class="brand"><i></i>dejavlad</span><nav aria-label="Contents">{contents}</nav></div>
<div class="hero"><h1>{label(title)}</h1>
{intro}</div>
</header>
<main id="content">
{body}
</main>
<footer>Written by dejavlad. This file is complete: it loads nothing and sends nothing.</footer>
<script>{SCRIPT}</script>
</body>
</html>
"""


def write(text: str, path: str | Path) -> Path:
    """Write a page whole or not at all, making its folder where there is none.

    Args:
        text: the page.
        path: the file, or an existing folder to write ``index.html`` in.

    Returns:
        The file.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, text)


def _section(section: Section) -> str:
    lead = f'<p class="lead">{section.lead}</p>\n' if section.lead else ""
    return (
        f'<section id="{section.id}" aria-labelledby="{section.id}-title">\n'
        f'<h2 id="{section.id}-title">{escape(section.title)}</h2>\n{lead}{section.html}\n</section>'
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
