"""The whole loop on a small shop: what it prints, promises, and cannot see ahead of."""

import csv
import json
import os
import random
import re
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from feilun.app import compose
from feilun.app.config import load
from feilun.records.codec import decode_prediction
from feilun.records.record import PREDICTION_SCHEMA

CUSTOMERS = 60
ORDERS = 9
SHUFFLED_FROM = 0.7
HEADINGS = ("客户", "订单号", "商品", "下单时间")


def _orders(shuffle_future):
    """Make orders: about once a week, mostly what was in the last one, and something new."""
    rng = random.Random(11)
    orders = []
    for customer in range(CUSTOMERS):
        basket = rng.sample(range(300), 6)
        when = datetime(2026, 1, 1, 8) + timedelta(hours=rng.randrange(24 * 7))
        for number in range(ORDERS):
            orders.append((when, f"c{customer}", f"{customer}-{number}", sorted(basket)))
            basket = rng.sample(basket, 4) + rng.sample(range(300), 3)
            basket = list(dict.fromkeys(basket))[:6]
            when += timedelta(days=rng.randrange(4, 10), hours=rng.randrange(-3, 4))
    orders.sort()
    if shuffle_future:
        start = int(len(orders) * SHUFFLED_FROM)
        baskets = [order[3] for order in orders[start:]]
        random.Random(5).shuffle(baskets)
        later = zip(orders[start:], baskets, strict=True)
        orders[start:] = [(*order[:3], basket) for order, basket in later]
    return orders


def _demo(folder, orders):
    """Run the command on a GB18030 file with Chinese headings; return what it printed."""
    path = folder / "订单.csv"
    with path.open("w", encoding="gb18030", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(HEADINGS)
        for when, customer, order, products in orders:
            for product in products:
                lines.writerow([customer, order, f"商品{product}", when.isoformat(sep=" ")])
    options = ("--customer", "--order", "--product", "--time")
    named = [word for pair in zip(options, HEADINGS, strict=True) for word in pair]
    command = [sys.executable, "-m", "feilun", "demo", "--orders", str(path), *named, "--json",
               "--into", str(folder / "shop")]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=folder, check=False,
        env=os.environ | {"LANG": "zh_CN.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _answers(folder):
    """Return what was answered and by which version, in the order of the orders."""
    log = compose.event_log(load(folder / "shop"))
    try:
        records = log.read(0, 1_000_000)
    finally:
        log.close()
    predictions = [
        decode_prediction(record.body)
        for _, record in records
        if record.schema == PREDICTION_SCHEMA
    ]
    answers = [
        (p.request_id, p.as_of, p.version, list(p.answer), p.scores)
        for p in predictions
        if p.capability == "recommend"
    ]
    # Requests of one moment run side by side, so the log may have them in any order.
    return sorted(answers, key=lambda answer: int(answer[0].rpartition("-")[2]))


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replayed")
    return folder, _demo(folder, _orders(shuffle_future=False))


def test_the_json_says_what_it_should(replayed):
    _, printed = replayed
    assert list(printed) == ["later_half", "flywheel_over_rule", "flywheel_over_frozen",
                             "forecast", "turns", "seconds"]  # fmt: skip
    assert list(printed["later_half"]) == ["popularity", "recency_rule", "frozen", "flywheel"]
    for figures in printed["later_half"].values():
        assert 0 < figures["precision"] <= figures["hit"] <= 1
    # Customers buy again what they bought, so whoever looks at them beats who does not.
    half = printed["later_half"]
    assert half["flywheel"]["precision"] > 2 * half["popularity"]["precision"]
    assert printed["flywheel_over_rule"]["low"] <= printed["flywheel_over_rule"]["high"]
    assert {turn["model"] for turn in printed["turns"]} == {"ranker", "demand"}
    assert all(turn["seconds"] > 0 and turn["trigger"] for turn in printed["turns"])


def test_the_report_opens_without_a_network(replayed):
    folder, _ = replayed
    page = (folder / "shop" / "report.html").read_text(encoding="utf-8")
    assert "重放" in page and 'lang="zh-CN"' in page
    assert page.count("<svg") == 2
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import|<script""", page)


def test_shuffling_the_future_changes_no_earlier_prediction(replayed, tmp_path):
    """Two runs of other futures answer alike until they part, turns and versions included."""
    folder, _ = replayed
    _demo(tmp_path, _orders(shuffle_future=True))
    before, after = _answers(folder), _answers(tmp_path)
    together = int(CUSTOMERS * ORDERS * SHUFFLED_FROM)
    assert before[:together] == after[:together]
    assert max(version for _, _, version, _, _ in before[:together]) > 0
    assert before[together:] != after[together:]
