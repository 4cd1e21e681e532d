"""`docs/security.md` says what is defended and by which test: each must be there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_is_named_exists():
    text = (ROOT / "docs/security.md").read_text("utf-8")
    named = re.findall(r"`([a-z_/]+\.py)::(test_\w+)`", text)
    assert len(named) > 40
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not re.search(rf"^\s*def {name}\(", (ROOT / "tests" / file).read_text("utf-8"), re.M)
    ]
    assert missing == []


def test_every_row_names_one():
    rows = re.findall(r"^\| .*\|$", (ROOT / "docs/security.md").read_text("utf-8"), re.M)
    rows = [row for row in rows if not row.startswith(("| What ", "|---"))]
    assert rows and all("::test_" in row for row in rows)
