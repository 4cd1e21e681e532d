"""``feilun demo``: its options live in the demo's own room, imported when they are needed."""

from __future__ import annotations

import click

from feilun.i18n import _


@click.command(
    "demo",
    help=_("Replay real shop orders through a running platform and report."),
    context_settings={"ignore_unknown_options": True},
    add_help_option=False,
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def demo(context: click.Context, words: tuple[str, ...]) -> None:
    """Hand the words on."""
    from feilun.demo.command import demo_command

    with demo_command.make_context("demo", list(words), parent=context.parent) as inner:
        demo_command.invoke(inner)
