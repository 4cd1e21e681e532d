"""The demo's project: the shop's template, fitted to the orders, in a folder of its own."""

from __future__ import annotations

import re
import shutil
import socket
from importlib import resources
from pathlib import Path

from feilun.demo.orders import OrderHistory
from feilun.errors import ConfigError

MARK = ".feilun-demo"
TURNS = 10
"""The first model is trained when a tenth of the orders has been seen; as many turns follow."""


def scaffold(folder: Path, history: OrderHistory) -> None:
    """Write the project into ``folder``, which starts clean.

    Raises
    ------
    ConfigError
        If the folder holds something else, or cannot be written.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise ConfigError(
            f"{folder} is not empty, and no demo made it.",
            "Choose another folder: feilun demo --into DIR",
        )
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        (folder / MARK).touch()
        template = resources.files("feilun.demo") / "templates" / "shop"
        for file in template.iterdir():
            if file.is_file():
                text = file.read_text(encoding="utf-8")
                fitted = fit(text, history) if file.name == "shop.py" else text
                (folder / file.name).write_text(fitted, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "Choose another folder: feilun demo --into DIR",
        ) from error


def fit(definitions: str, history: OrderHistory) -> str:
    """Fit the template to the orders: types of the ids, time zone, outcomes a turn."""
    first = history.orders[0]
    outcomes = max(100, round(len(history.orders) // TURNS, -2))
    return _replaced(
        definitions,
        (r"^UserId = int$", f"UserId = {_type(first.customer)}"),
        (r"^ItemId = int$", f"ItemId = {_type(first.products[0])}"),
        (r'timezone="[^"]*"', f'timezone="{history.timezone}"'),
        (r"turn=fl\.after\(1500\)", f"turn=fl.after({outcomes})"),
    )


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _type(value: object) -> str:
    return "int" if isinstance(value, int) else "str"


def _replaced(text: str, *changes: tuple[str, str]) -> str:
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text, count=1, flags=re.MULTILINE)
        if not count:
            raise AssertionError(f"the template has no line like {pattern}")
    return text
