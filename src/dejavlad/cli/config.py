"""`dejavlad config`: each setting and where it comes from."""

from __future__ import annotations

from dejavlad.cli.terminal import Output, table


def config(*, output: Output = Output()) -> None:
    """Each setting, its value and where it comes from: `config.toml`, the environment, or the default.

    Example: `dejavlad config`
    """
    from dejavlad.settings import Settings

    rows = Settings.load().explain()
    output.answer(
        [{"setting": name, "value": value, "from": source} for name, value, source in rows],
        table(("setting", "value", "from"), rows),
    )
