"""Kills a controller at every write of its turns, starts another, and prints what came of it.

A program of its own, so that it can fork: each controller is a process, and dies by SIGKILL.
"""

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import flywheel_world as world

from feilun.adapters.sqlite import SqliteReleases, SqliteTurns
from feilun.flywheel.controller import Controller

WRITES = {
    "turns": ("open", "claim", "save_step", "finish", "note_examined"),
    "releases": ("append",),
    "registry": ("register", "set_alias"),
}


class Killer:
    """Counts writes, and kills this process just before one of them.

    That is also just after the one before it: between two writes nothing is kept.
    """

    def __init__(self, at):
        self.left = at

    def wrap(self, store, names):
        for name in names:
            setattr(store, name, self._before(getattr(store, name)))

    def _before(self, write):
        def before(*args, **options):
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
            return write(*args, **options)

        return before


def run(folder, kill_at):
    """Take all turns in a process of its own; return whether it lived to the end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            stores = {
                "turns": SqliteTurns(folder / "platform.db"),
                "releases": SqliteReleases(folder / "platform.db"),
                "registry": world.FileRegistry(folder / "registry.json"),
            }
            killer = Killer(kill_at)
            for name, writes in WRITES.items():
                killer.wrap(stores[name], writes)
            # No two runs of this training give the same model: what was done must be kept.
            project = world.project(world.model(world.never_the_same), margin=2.0)
            Controller(world.workshop(folder, LOG, project=project, **stores)).run_once()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0, f"the controller failed, killed at {kill_at}"
    return True


def outcome(folder):
    turns, releases = SqliteTurns(folder / "platform.db"), SqliteReleases(folder / "platform.db")
    registry = world.FileRegistry(folder / "registry.json")
    found = {
        "states": [turn.state for turn in turns.turns()],
        "cuts": [turn.cut for turn in turns.turns()],
        "examined": turns.examined("ranker") == LOG.end(),
        "released": [[entry.version, entry.turn] for entry in releases.entries()],
        "registered": [version.version for version in registry.versions("ranker")],
        "bundles_match": all(
            registry.get("ranker", entry.version).bundle == entry.bundle
            for entry in releases.entries()
        ),
        "champion": registry.get("ranker", "champion").version,
        "steps": [[step.name for step in turns.steps(turn.id)] for turn in turns.turns()],
    }
    turns.close()
    releases.close()
    return found


LOG = world.shop_log(500)

if __name__ == "__main__":
    root = Path(sys.argv[1])
    for kill_at in range(1_000):
        folder = root / str(kill_at)
        folder.mkdir()
        lived = run(folder, kill_at)
        if not lived:
            assert run(folder, kill_at=10**9)
        line = {"killed_at": kill_at, "lived": lived, **outcome(folder)}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        if lived:
            break
