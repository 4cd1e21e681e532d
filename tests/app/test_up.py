"""The platform as a whole, run by ``feilun up`` and used as people and programs use it."""

import json
import signal
import socket
import subprocess
import sys

import pytest

from feilun.app import compose
from feilun.app.config import load

pytestmark = pytest.mark.xdist_group("up")


def click(user, item, name=None):
    event = {"event": "click", "fields": {"user_id": user, "item_id": item}}
    return {**event, "id": name} if name else event


def clicks(shop, user, offset=None):
    query = f"&min_offset={offset}" if offset is not None else ""
    status, reply = shop.call(f"/api/user_profile?user_id={user}{query}")
    assert status == 200, reply
    return reply["features"]["clicks"]


def test_up_says_where_everything_is(running):
    said = running.up.said()
    assert said.splitlines()[0].startswith(f"Starting the platform of {running.root}")
    assert "gateway, engine, flywheel" in said.splitlines()[1]
    for part in ("/docs", "/api/events", "/api/recommend", "/api/user_profile?user_id=…"):
        assert f"http://127.0.0.1:{running.port}{part}" in said


def test_an_event_changes_the_next_reply(running):
    before = clicks(running, 1)
    answer = running.json("send", "click", "user_id=1", "item_id=7")["events"][0]
    assert answer["status"] == "accepted"
    assert clicks(running, 1, answer["offset"]) == before + 1
    found = running.json("features", "user_profile", "user_id=1")
    assert found["features"]["user_profile:clicks"] == before + 1
    assert "clicks" in running.run("features", "user_profile:clicks", "user_id=1").stdout


def test_recommend_answers_by_the_fallback_until_there_is_a_model(running):
    answer = running.json("send", "click", "user_id=2", "item_id=9")["events"][0]
    status, reply = running.call(f"/api/recommend?user_id=2&min_offset={answer['offset']}")
    assert status == 200
    assert 9 in reply["result"]
    assert "no_model" in reply["degraded"]


def test_a_file_of_events_counts_once_however_often_it_is_sent(running, tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(click(3, item)) + "\n" for item in range(5)) + "\n")
    first = running.json("send", "--file", path)["events"]
    again = running.json("send", "--file", path)["events"]
    assert [e["status"] for e in first] == ["accepted"] * 5
    assert [e["status"] for e in again] == ["duplicate"] * 5
    assert [e["offset"] for e in first] == [e["offset"] for e in again]
    assert clicks(running, 3, first[-1]["offset"]) == 5


def test_bad_events_are_kept_with_their_reason_and_shown_harmless(running, tmp_path):
    path = tmp_path / "events.jsonl"
    bad = {"event": "click", "fields": {"user_id": "\x1b[2J\u202e飞轮", "item_id": 1}}
    path.write_text(json.dumps(bad, ensure_ascii=False).replace("\x1b", "\\u001b"), "utf-8")
    assert " bad: " in running.run("send", "--file", path, code=1).stdout
    shown = running.run("events", "bad").stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    kept = running.json("events", "bad")["bad"]
    assert any("飞轮" in event["raw"] for event in kept)


def test_a_file_that_is_not_json_lines_sends_nothing(running, tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(click(4, 1)) + "\nnonsense\n")
    assert "line 2" in running.run("send", "--file", path, code=2).stderr
    assert clicks(running, 4) == 0


def test_status_shows_what_runs(running):
    found = running.json("status")
    assert {name: p["state"] for name, p in found["processes"].items()} == dict.fromkeys(
        ("up", "gateway", "engine", "flywheel", "archiver"), "ready"
    )
    assert found["platform"]["problems"] == []
    assert "ranker" in running.run("status").stdout


def test_a_second_up_is_refused_with_the_pid(running):
    error = running.run("up", code=3).stderr
    assert str(running.up.process.pid) in error
    assert len(error.splitlines()) == 2
    assert clicks(running, 5) == 0


def test_rebuild_is_refused_while_the_engine_runs(running):
    assert "engine" in running.run("rebuild", code=3).stderr


def test_a_turn_without_data_fails_with_its_reason(running):
    assert running.run("turn", "nobody", code=2).stderr.startswith("error: ")
    said = running.run("turn", "ranker", code=1).stdout
    assert "failed" in said
    assert running.run("history").stdout.strip()


def test_a_port_in_use_is_a_clear_error(shop):
    with socket.socket() as other:
        other.bind(("127.0.0.1", shop.port))
        other.listen()
        for command in (["up"], ["serve", "gateway"]):
            error = shop.run(*command, code=2).stderr
            assert f"port {shop.port}" in error
            assert "--port" in error


def test_ctrl_c_ends_everything_in_good_order(shop, start, until):
    with start(shop) as up:
        found = shop.json("status")["processes"]
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(timeout=30) == 0
    for process in found.values():
        until(lambda pid=process["pid"]: not is_running(pid))
    shop.run("rebuild")


def test_no_child_outlives_a_killed_supervisor(shop, start, until):
    with start(shop) as up:
        found = shop.json("status")["processes"]
        up.process.send_signal(signal.SIGKILL)
        up.process.wait()
        for process in found.values():
            until(lambda pid=process["pid"]: not is_running(pid))
        with start(shop):
            assert clicks(shop, 1) == 0


def test_a_part_that_cannot_start_is_named(shop):
    compose.event_log(load(shop.root)).close()
    (shop.root / ".feilun/tiles").mkdir(parents=True)
    (shop.root / ".feilun/tiles/data.mdb").write_bytes(b"this is not an LMDB file" * 1000)
    result = subprocess.run(
        [sys.executable, "-m", "feilun", "up"],
        cwd=shop.root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode in (1, 2, 3)
    assert "did not start" in result.stderr
    assert "Traceback" not in result.stderr


def is_running(pid):
    """Whether it lives: a zombie, which nobody has waited for yet, does not."""
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return state != "" and not state.startswith("Z")
