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
from typing import Any

from dejavlad.files import write_whole
from dejavlad.report.templating import HTML, asset, render


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page, with a heading and an entry in its contents."""

    id: str
    """Its anchor: letters only."""
    title: str
    """Its heading, as plain text."""
    html: HTML
    """What stands below the heading."""

    @classmethod
    def of(cls, id_: str, title: str, template: str, **values: Any) -> Section:
        """A section whose HTML is the block `id_` of a template."""
        return cls(id_, title, render(template, id_, **values))


def write_sections(
    path: str | Path, title: str, intro: HTML, sections: Sequence[Section | None], pictures: str = ""
) -> Path:
    """Write a page whole or not at all, making its folder where there is none.

    Args:
        path: the file, or an existing folder to write ``index.html`` in.
        title: plain text.
        intro: what stands below the title.
        sections: in order; None among them is left out.
        pictures: the style rules of `Thumbnails.css`.

    Returns:
        The file.
    """
    styles = [asset("style.css"), *([HTML(pictures)] if pictures else [])]
    script = asset("page.js")
    policy = [
        "default-src 'none'",
        "img-src data:",
        " ".join(["style-src", *map(policy_hash, styles)]),
        f"script-src {policy_hash(script)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    text = render(
        "page",
        title=title,
        intro=intro,
        sections=[section for section in sections if section is not None],
        styles=styles,
        script=script,
        policy="; ".join(policy),
        icon=base64.b64encode(asset("icon.svg").encode()).decode(),
    )
    path = Path(path)
    if path.is_dir():
        path = path / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, text + "\n")


def policy_hash(text: str) -> str:
    """By which a content security policy names a script or a style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
