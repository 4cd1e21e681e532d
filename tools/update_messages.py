"""Gathers every message of src/feilun, brings the translations up to date, and compiles them.

``make messages`` runs it. It exits with 1, and says which, while a message has no translation.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "feilun"
PO = SOURCE / "locale" / "zh_CN" / "LC_MESSAGES" / "feilun.po"
TYPERS = (
    "Arguments",
    "Commands",
    "Missing command.",
    "No such command {name!r}.",
    "Options",
    "default: {default}",
    "required",
)
"""What Typer says in its help and asks gettext for."""
KEYWORDS = {"_": None, "marked": None}
"""The functions whose first argument is a message."""


def template() -> Catalog:
    """Return a catalog of everything that src/feilun says to people, without translations."""
    catalog = Catalog(project="Feilun", domain="feilun", fuzzy=False)
    for message in TYPERS:
        catalog.add(message, locations=[("typer", 0)])
    found = extract_from_dir(SOURCE, method_map=[("**.py", "python")], keywords=KEYWORDS)
    for name, line, message, comments, context in sorted(found, key=lambda row: row[:2]):
        catalog.add(message, locations=[(name, line)], auto_comments=comments, context=context)
    return catalog


def stored() -> Catalog:
    """Return the translations as they are."""
    with PO.open("rb") as file:
        return read_po(file, locale="zh_CN", domain="feilun")


def compiled(catalog: Catalog) -> bytes:
    """Return the bytes that gettext reads at run time."""
    buffer = io.BytesIO()
    write_mo(buffer, catalog)
    return buffer.getvalue()


def untranslated(catalog: Catalog) -> list[str]:
    """Return the messages without a translation that can be trusted."""
    return [str(m.id) for m in catalog if m.id and (not m.string or m.fuzzy)]


def main() -> int:
    """Update, compile, and say what is missing."""
    catalog = stored() if PO.exists() else Catalog(locale="zh_CN", domain="feilun")
    made = catalog.creation_date
    catalog.update(template(), no_fuzzy_matching=True)
    catalog.obsolete.clear()
    catalog.fuzzy = False
    # Nothing but a message changes the file: no line numbers, no date of the last update.
    catalog.creation_date = made
    catalog.header_comment = "# What Feilun says to people, in simplified Chinese."
    catalog.project, catalog.version = "Feilun", ""
    catalog.last_translator = catalog.language_team = "The Feilun developers"
    catalog.msgid_bugs_address = ""
    PO.parent.mkdir(parents=True, exist_ok=True)
    with PO.open("wb") as file:
        write_po(file, catalog, no_location=True, sort_output=True, width=100)
    PO.with_suffix(".mo").write_bytes(compiled(stored()))
    missing = untranslated(stored())
    for message in missing:
        print(f"not translated: {message!r}", file=sys.stderr)  # noqa: T201
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
