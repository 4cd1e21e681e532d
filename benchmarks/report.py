"""``python -m benchmarks.report``: writes the tables of README.md from what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS_FILE, figure

README = Path(__file__).parent / "README.md"
BEGIN = "<!-- results: written by python -m benchmarks.report -->"
END = "<!-- end of results -->"

Record = Mapping[str, Any]


def main() -> None:
    """Put the latest result of each name and peer between the marks of README.md."""
    lines = RESULTS_FILE.read_text(encoding="utf-8").splitlines()
    text = README.read_text(encoding="utf-8")
    README.write_text(written(text, map(json.loads, lines)), encoding="utf-8")
    print(f"Wrote {README}.")


def written(text: str, records: Iterable[Record]) -> str:
    """Return the text with what lies between its marks replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables(latest(records))}\n{END}{after}"


def latest(records: Iterable[Record]) -> list[Record]:
    """Return the newest record of each name and peer, in the order in which they first came."""
    found: dict[tuple[str, str], Record] = {}
    for record in records:
        package = (record["peer"] or "").partition("==")[0]
        found[record["name"], package] = record
    return list(found.values())


def tables(records: Iterable[Record]) -> str:
    """Return a table for each machine and commit, and the sizes and notes of each benchmark."""
    by_place = sorted(records, key=lambda record: _place(record["environment"]))
    parts = []
    for place, measured in groupby(by_place, key=lambda record: _place(record["environment"])):
        rows = list(measured)
        parts.append(f"### {place}\n\n{_table(rows)}\n\n{_notes(rows)}\n")
    return "\n".join(parts)


def _place(environment: Record) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in environment["versions"].items())
    return (
        f"{environment['cpu']}, {environment['cores']} cores, {environment['memory_gib']} GiB, "
        f"{environment['system']}, Python {environment['python']}, {versions}; "
        f"commit {environment['commit']}"
    )


def _table(records: Iterable[Record]) -> str:
    lines = [
        "| Name | Feilun | Peer | Peer's | Ratio | Limit | × limit |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for record in records:
        theirs = f"{figure(record['peer_value'])}" if not record.get("reason") else "not measured"
        cells = (
            f"`{record['name']}`",
            f"{figure(record['value'])} {record['unit']}",
            (record["peer"] or "–").replace("==", " "),
            theirs,
            figure(record["ratio"]),
            figure(record["limit"]),
            figure(record["limit_ratio"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _notes(records: Iterable[Record]) -> str:
    lines: list[str] = []
    said: set[tuple[str, str]] = set()
    for record in records:
        note = "" if (record["name"], record["note"]) in said else record["note"]
        said.add((record["name"], record["note"]))
        sizes = "; ".join(
            f"{name.replace('_', ' ')} {_written(value)}"
            for name, value in record["details"].items()
        )
        words = [note, f"({sizes}.)" if sizes else "", record.get("reason", "")]
        if any(words):
            who = f" against {record['peer'].partition('==')[0]}" if record["peer"] else ""
            lines.append(f"- `{record['name']}`{who}: {' '.join(filter(None, words))}")
    return "\n".join(lines)


def _written(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_written(part)}" for name, part in value.items())
    return figure(value) if isinstance(value, int | float) else str(value)


if __name__ == "__main__":
    main()
