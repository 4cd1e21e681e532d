"""``feilun demo``: its options live in the demo's own room, imported when they are needed."""

from __future__ import annotations

import typer

from feilun.i18n import _


def register(app: typer.Typer) -> None:
    """Add the command."""
    everything = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(
        "demo",
        help=_("Replay real shop orders through a running platform and report."),
        context_settings=everything,
        add_help_option=False,
    )(demo)


def demo(context: typer.Context) -> int:
    """Hand the arguments on."""
    from feilun.demo.command import demo_command

    single = typer.Typer(rich_markup_mode=None, add_completion=False)
    single.command(help=_("Replay real shop orders through a running platform and report."))(
        demo_command
    )
    return int(single(args=context.args, prog_name="feilun demo", standalone_mode=False) or 0)
