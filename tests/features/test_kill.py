from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def test_killed_at_any_moment_the_features_equal_their_recomputation(tmp_path):
    """SIGKILL at random while it folds; what is left is exactly some prefix of the log."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("kill_rounds.py"), tmp_path],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kills, places = map(int, re.findall(r"\d+", done.stdout))
    assert kills >= 25
    assert places >= 10
