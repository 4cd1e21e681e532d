"""Gathers every message of src/feilun, brings the translations up to date, and compiles them.

``make messages`` runs it. It exits with 1, and says which, while a message has no translation.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir, extract_from_file
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "feilun"
PO = SOURCE / "locale" / "zh_CN" / "LC_MESSAGES" / "feilun.po"
CLICK = Path(click.__file__).parent
CLICKS = ("core.py", "decorators.py", "exceptions.py", "formatting.py", "parser.py", "types.py")
"""The modules of Click that make its help and its errors; it asks gettext for what they say."""
KEYWORDS = {"_": None, "marked": None}
"""The functions whose first argument is a message."""
CLICKS_KEYWORDS = {"_": None, "ngettext": (1, 2)}


def template() -> Catalog:
    """Return a catalog of everything that src/feilun says to people, without translations."""
    catalog = Catalog(project="Feilun", domain="feilun", fuzzy=False)
    for message in clicks_messages():
        catalog.add(message, locations=[("click", 0)])
    found = extract_from_dir(SOURCE, method_map=[("**.py", "python")], keywords=KEYWORDS)
    for name, line, message, comments, context in sorted(found, key=lambda row: row[:2]):
        catalog.add(message, locations=[(name, line)], auto_comments=comments, context=context)
    return catalog


def clicks_messages() -> Iterator[str | tuple[str, ...]]:
    """Yield what Click says, of the release that is installed: messages, or singular and plural."""
    for name in CLICKS:
        found = extract_from_file("python", CLICK / name, keywords=CLICKS_KEYWORDS)
        for _line, message, _comments, _context in found:
            yield message
        if name == "core.py":
            yield "required"  # asked for by way of a variable


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
    return [str(m.id) for m in catalog if m.id and (not all(forms(m.string)) or m.fuzzy)]


def forms(text: str | Sequence[str]) -> tuple[str, ...]:
    """Return the forms of a message or a translation: one, or as many as it has plurals."""
    return (text,) if isinstance(text, str) else tuple(text)


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
