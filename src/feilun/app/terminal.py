"""Writing for people: tables, progress, errors. What users typed or sent is made harmless first."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from feilun.i18n import _

_HARMFUL = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that can move the cursor, reverse text or break a line."""


def printable(value: object) -> str:
    r"""Return ``value`` as text that cannot control a terminal.

    Examples
    --------
    >>> printable("飞轮\x1b[2J")
    '飞轮\\x1b[2J'
    """
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in _HARMFUL else character
        for character in str(value)
    )


def say(text: str) -> None:
    """Print text; its lines are kept, other control characters are made visible."""
    print("\n".join(printable(line) for line in text.split("\n")), flush=True)  # noqa: T201


def say_json(value: Any) -> None:
    """Print one JSON object, for scripts."""
    print(json_line(value), flush=True)  # noqa: T201


def json_line(value: Any) -> str:
    r"""Return ``value`` as one line of JSON that cannot control a terminal; it decodes to the same.

    Examples
    --------
    >>> json_line("飞轮\x9b2J")
    '"飞轮\\u009b2J"'
    """
    text = json.dumps(value, ensure_ascii=False, default=str)
    if text.isprintable():
        return text
    return "".join(
        json.dumps(character)[1:-1] if unicodedata.category(character) in _HARMFUL else character
        for character in text
    )


def say_table(headings: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print rows in columns; wide (Chinese) characters keep their alignment."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, title=title or None, title_justify="left", pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else printable(cell)) for cell in row))
    console = _console()
    console.print(table)
    console.file.flush()  # what reads a pipe sees it now, not when we end


def complain(message: str, hint: str = "") -> None:
    """Print an error in one or two lines, on standard error."""
    lines = [printable(line) for line in message.split("\n")]
    text = _("error: {message}", message="\n       ".join(lines))
    if hint:
        text += "\n" + _("try: {hint}", hint=printable(hint))
    print(text, file=sys.stderr)  # noqa: T201


def with_progress(total: int, label: str, work: Callable[[Callable[[int], None]], None]) -> None:
    """Run ``work`` with a function that tells how much of ``total`` is done; show a bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(printable(label), total=total)
        work(lambda done: progress.update(task, completed=done))


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a pipe or a file has no edge at which to fold
    return console
