"""A controller may be killed at any moment; two may run at once. One version lives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import flywheel_world as world

from feilun.adapters.sqlite import SqliteReleases, SqliteTurns

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, str(HERE / "kill_runner.py"), str(tmp_path_factory.mktemp("kills"))],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_kill_at_any_write_changes_nothing_in_the_end(outcomes):
    *killed, undisturbed = outcomes
    assert undisturbed["lived"]
    assert undisturbed["states"] == ["promoted", "promoted"]
    assert len(killed) > 20
    for outcome in killed:
        assert not outcome["lived"]
        assert outcome | {"killed_at": 0, "lived": True} == undisturbed | {"killed_at": 0}


def test_each_turn_registers_and_releases_once(outcomes):
    for outcome in outcomes:
        assert outcome["registered"] == [1, 2]
        assert outcome["released"] == [[1, 1], [2, 2]]
        assert outcome["bundles_match"]
        assert outcome["champion"] == 2


RACER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import flywheel_world as world
from feilun.adapters.sqlite import SqliteReleases, SqliteTurns
from feilun.flywheel.controller import Controller

folder, name = Path(sys.argv[2]), sys.argv[3]
turns, releases = SqliteTurns(folder / "platform.db"), SqliteReleases(folder / "platform.db")
shop = world.workshop(
    folder, world.shop_log(500), project=world.project(margin=2.0), turns=turns,
    releases=releases, registry=world.FileRegistry(folder / f"{name}.json"), owner=name,
)
print("ready", flush=True)
sys.stdin.readline()
controller = Controller(shop)
for _ in range(200):
    controller.run_once()
    if turns.examined("ranker") == shop.log.end():
        break
    shop.clock.advance(1_000_000)
"""


def test_two_controllers_race_and_every_turn_is_taken_once(tmp_path):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(HERE), str(tmp_path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n", racer.stderr.read()
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        _, said = racer.communicate(timeout=300)  # ten times what it takes on a busy machine
        assert racer.returncode == 0, said
    turns = SqliteTurns(tmp_path / "platform.db")
    releases = SqliteReleases(tmp_path / "platform.db")
    assert [turn.state for turn in turns.turns()] == ["promoted", "promoted"]
    assert [entry.turn for entry in releases.entries()] == [1, 2]
    assert turns.examined("ranker") == world.shop_log(500).end()
    turns.close()
    releases.close()
