"""Both type checkers, strict, agree with what definitions may say.

``accepted.py`` must pass; of ``rejected.py.txt`` (no module: nothing may import it) exactly the
lines marked ``# expect-error`` must fail.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def mypy(folder: Path) -> dict[str, set[int]]:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", ROOT / "pyproject.toml",
               "--no-pretty", "--hide-error-context", *sorted(folder.glob("*.py"))]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(r"^(?:.*/)?(\w+\.py):(\d+):(?:\d+:)? error:", done.stdout, re.MULTILINE)
    return by_file((name, int(line)) for name, line in found)


def pyright(folder: Path) -> dict[str, set[int]]:
    settings = {"include": ["*.py"], "typeCheckingMode": "strict", "reportUnusedExpression": False}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [Path(sys.executable).with_name("basedpyright"), "--outputjson", "--pythonpath",
               sys.executable, "--project", folder]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return by_file(
        (Path(found["file"]).name, found["range"]["start"]["line"] + 1)
        for found in json.loads(done.stdout)["generalDiagnostics"]
        if found["severity"] == "error"
    )


def by_file(found: Iterable[tuple[str, int]]) -> dict[str, set[int]]:
    lines: dict[str, set[int]] = {}
    for name, line in found:
        lines.setdefault(name, set()).add(line)
    return lines


@pytest.mark.parametrize("check", [mypy, pyright])
def test_exactly_the_marked_lines_are_refused(
    tmp_path: Path, check: Callable[[Path], dict[str, set[int]]]
):
    rejected = (HERE / "rejected.py.txt").read_text(encoding="utf-8")
    (tmp_path / "rejected.py").write_text(rejected, encoding="utf-8")
    accepted = (HERE / "accepted.py").read_text(encoding="utf-8")
    (tmp_path / "accepted.py").write_text(accepted, encoding="utf-8")
    marked = {
        number
        for number, line in enumerate(rejected.splitlines(), 1)
        if line.endswith("# expect-error")
    }
    assert len(marked) > 60
    found = check(tmp_path)
    assert found.get("accepted.py", set()) == set()
    refused = found.get("rejected.py", set())
    assert (sorted(refused - marked), sorted(marked - refused)) == ([], [])
