"""What is printed, kept and written is what was measured; who is missing is named."""

import json

import pytest

from benchmarks import harness, report, workers
from benchmarks.harness import Result, WrongAnswer, core_seconds, expect, interleaved, peers


def test_a_ratio_above_one_is_ahead_whether_less_or_more_is_better():
    assert Result("read", 10.0, "µs", "feast", 150.0).ratio == 15
    assert Result("fold", 500.0, "events/s", "flink", 100.0).ratio == 5


def test_a_limit_ratio_is_how_many_times_the_limits_cost():
    assert Result("read", 12.0, "µs", limit=4.0).limit_ratio == 3
    assert Result("collect", 100.0, "events/s", limit=250.0).limit_ratio == 2.5


def test_a_line_has_the_agreed_names_and_no_more():
    line = json.loads(Result("read", 10.0, "µs", details={"keys": 1}).line())
    assert line == {
        "name": "read",
        "value": 10.0,
        "unit": "µs",
        "peer": None,
        "peer_value": None,
        "ratio": None,
        "limit": None,
        "limit_ratio": None,
    }


def test_contenders_take_turns_and_each_figure_is_its_own_median():
    order = []

    def contender(name, walls):
        times = iter(walls)

        def once():
            order.append(name)
            return {"wall": next(times), "folder": "x"}

        return once

    found = interleaved({"a": contender("a", [3, 1, 2]), "b": contender("b", [9, 7, 8])}, runs=3)
    assert found == {"a": {"wall": 2}, "b": {"wall": 8}}
    assert order == ["a", "b"] * 3


def test_waiting_counts_and_so_does_a_second_core():
    assert core_seconds({"wall": 3.0, "cpu": 1.0}) == 3.0
    assert core_seconds({"wall": 3.0, "cpu": 5.0}) == 5.0


def test_a_wrong_answer_ends_a_benchmark():
    expect("feast", [1], [1])
    with pytest.raises(WrongAnswer, match="feast"):
        expect("feast", [1], [2])


def test_a_worker_answers_and_its_error_is_raised_here(results):
    with workers.ours("benchmarks.limits") as worker:
        assert worker.call("ping") is None
        with pytest.raises(workers.WorkerFailed, match="no-such-folder"):
            worker.call("open_values", folder=str(results), tiles=str(results / "no-such-folder"))
        assert worker.call("ping") is None


def test_a_worker_that_died_is_named(results):
    with (
        workers.Worker("false", "benchmarks.limits") as worker,
        pytest.raises(workers.WorkerFailed, match=r"benchmarks\.limits ended with code 1"),
    ):
        worker.call("ping")


def test_a_peer_that_cannot_be_installed_is_reported_with_the_reason(results, monkeypatch):
    (results / "ghost.txt").write_text("ghost = = 1\n")
    monkeypatch.setattr(workers, "REQUIREMENTS", results)
    monkeypatch.setattr(workers, "ENVIRONMENTS", results / "environments")
    with peers("ghost") as found:
        assert not found.running
        (result,) = found.results("read", 10.0, "µs")
    line = json.loads(result.line())
    assert line["peer"] == "ghost"
    assert line["ratio"] is None
    assert line["reason"].startswith("ghost cannot be installed: ")


def test_results_are_kept_with_the_machine_and_the_commit(results):
    path = results / "kept.jsonl"
    harness.keep([Result("read", 10.0, "µs", note="words", details={"keys": 1})], path)
    harness.keep([Result("fold", 5.0, "events/s")], path)
    first, second = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert (first["name"], second["name"]) == ("read", "fold")
    assert (first["note"], first["details"]) == ("words", {"keys": 1})
    assert {"cpu", "cores", "memory_gib", "python", "versions", "commit"} <= set(
        first["environment"]
    )


def record(name, value, peer="feast==1", **more):
    where = {
        "at": "x",
        "cpu": "CPU",
        "cores": 2,
        "memory_gib": 8,
        "system": "Linux",
        "python": "3.11",
    }
    where |= {"versions": {"numpy": "2"}, "commit": "abc"}
    result = Result(name, value, "µs", peer, 100.0, note="It reads.", details={"keys": 1}, **more)
    return json.loads(result.record(where))


def test_the_report_shows_the_newest_of_each_name_and_peer():
    old, new = record("read", 10.0), record("read", 20.0, peer="feast==2")
    text = report.written(f"before\n{report.BEGIN}\nstale\n{report.END}\nafter\n", [old, new])
    assert text.startswith("before\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "stale" not in text
    assert "| `read` | 20 µs | feast 2 | 100 | 5 | – | – |" in text
    assert "feast 1" not in text
    assert "- `read` against feast: It reads. (keys 1.)" in text
    assert "commit abc" in text
    assert report.written(text, [old, new]) == text


def test_the_report_says_who_was_not_measured_and_why():
    missing = json.loads(
        Result("read", 1.0, "µs", "ghost", reason="it is gone").record(
            record("x", 1.0)["environment"]
        )
    )
    text = report.tables([missing])
    assert "not measured" in text
    assert "it is gone" in text
