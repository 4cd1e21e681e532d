"""The benchmarks of the gateway serve what they say, at a small size."""

import pytest

from benchmarks import serving, workers

ROWS = [[float(number * place + 1) for place in range(10)] for number in range(5)]


@pytest.fixture
def small(monkeypatch, results):
    monkeypatch.setattr(serving, "EVENTS", 3_000)
    monkeypatch.setattr(serving, "USERS", 30)
    monkeypatch.setattr(serving, "ITEMS", 20)
    monkeypatch.setattr(serving, "REQUESTS", 5)
    monkeypatch.setattr(serving, "RUNS", 1)
    monkeypatch.setattr(serving, "WARM", 0.05)
    monkeypatch.setattr(serving, "SECONDS", 0.2)


def test_the_gateway_scores_rows_as_lightgbm_does_and_the_echo_echoes(small):
    with serving._bench() as bench:
        wanted = bench.served.call("predict", model=bench.model, rows=ROWS)
        contenders = [serving._score_contender(bench, ROWS), serving._echo(ROWS)]
        found = serving._measure(bench, contenders, wanted, connections=2)
    assert found["feilun"]["rate"] > 0
    assert found["feilun"]["mib"] > 10
    assert found["limit"]["rate"] > 0


@pytest.mark.parametrize("benchmark", [serving.lookup_score, serving.rank_500])
def test_users_are_looked_up_and_ranked(small, monkeypatch, benchmark):
    def nobody(name):
        raise workers.PeerMissing(f"{name} is not measured in tests")

    monkeypatch.setattr(workers, "environment", nobody)
    (result,) = benchmark()
    assert result.value > 0
    assert result.peer_value is None
    assert "not measured" in result.reason
