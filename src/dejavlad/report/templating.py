"""Templates of pages: HTML in ``templates/``, every value escaped, characters without a look replaced.

Jinja2 is imported here and nowhere else, when the first page is made.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from dejavlad.report import text

if TYPE_CHECKING:
    from jinja2 import Environment


class HTML(str):
    """Markup that templates write as it is; any other value they escape."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def render(template: str, block: str = "", **values: Any) -> HTML:
    """Fill in a template.

    Args:
        template: name of the file in ``templates/``, without its ending.
        block: fill in this block of it alone; all of it, where that is empty.
        values: what it names; one that is missing is an error.
    """
    loaded = _environment().get_template(f"{template}.html")
    if not block:
        return HTML(loaded.render(values))
    return HTML("".join(loaded.blocks[block](loaded.new_context(values))))


@cache
def asset(name: str) -> HTML:
    """A file of ``templates/`` that pages hold as it is: the style sheet, the script, the icon."""
    return HTML(files("dejavlad.report").joinpath("templates", name).read_text(encoding="utf-8"))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dejavlad.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_written,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        {
            "short": text.shorten,
            "counted": text.count,
            "percent": text.percent,
            "sure": text.sure,
            "metres": text.metres,
            "duration": text.duration,
            "plain": text.plain,
            "sentence": text.sentence,
            "number": "{:,}".format,
        }
    )
    environment.globals["ui"] = environment.get_template("macros.html").module
    return environment


def _written(value: Any) -> Any:
    """What stands in the page for a value, before it is escaped."""
    return value if hasattr(value, "__html__") else text.visible(value)
