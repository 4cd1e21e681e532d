"""What is said about mistakes in flywheels and settings."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mistakes import cases, check, flywheel

FLYWHEELS = {
    "not a model": (
        "def nobody(data): ...\n" + flywheel("nobody"),
        "is not a model",
        "There are: ranker",
    ),
    "two loops": (
        flywheel().replace("# HERE", "") + "second" + flywheel(),
        "has a flywheel already",
        "|",
    ),
    "not a trigger": (flywheel(turn="1000"), "turn=1000 is not a trigger", "fl.after"),
    "after nothing": (flywheel(turn="fl.after(0)"), r"after\(0\) counts nothing", "1 or more"),
    "after no event": (flywheel(turn='fl.after(9, "x")'), "counts events, not 'x'", "Name"),
    "not a gate": (flywheel(gate='"better"'), "gate='better' is not a gate", "fl.better"),
    "confidence in percent": (flywheel(gate="fl.better(confidence=95)"), "confidence=95", "0.95"),
    "negative margin": (flywheel(gate="fl.no_worse(margin=-1)"), "margin=-1", "0 or more"),
    "two settings": (
        "a = fl.Settings()\nb = fl.Settings()  # HERE",
        "one Settings",
        "Keep one",
    ),
    "unknown zone": (
        's = fl.Settings(timezone="Asia/Shanghia")  # HERE',
        "is unknown",
        "Did you mean 'Asia/Shan",
    ),
    "zone that is a path": ('s = fl.Settings(timezone="../etc")  # HERE', "is unknown", "IANA"),
    "zone that is no text": ("s = fl.Settings(timezone=8)  # HERE", "is unknown", "IANA"),
}


@pytest.mark.parametrize(("snippet", "what", "fix"), cases(FLYWHEELS))
def test_each_mistake_is_one_problem(tmp_path, snippet, what, fix):
    check(tmp_path, snippet, what, fix)
