"""The definitions in ``docs/definitions.md`` give what the page says, reckoned by hand here."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from feilun.clock import DAY, HOUR
from feilun.definitions.loading import load_project
from feilun.definitions.specs import features_of
from feilun.features.engine import Engine
from feilun.features.expressions import complete
from feilun.features.frames import event_frames
from feilun.features.online import OnlineReader
from feilun.features.point_in_time import Spine, point_in_time
from feilun.testing.fakes import MemoryLog, MemoryStore
from feilun.testing.records import START, make_record

PAGE = Path(__file__).parents[2] / "docs" / "definitions.md"
NOW = START + 12 * HOUR  # 20 o'clock in Shanghai

LINES = [
    # days ago, user, item, price, category, again, coupon
    (40, 7, 42, 2.0, "tea", False, None),
    (20, 7, 42, 4.0, "tea", True, None),
    (2, 7, 42, 8.0, "tea", True, "NEW"),
    (1, 7, 43, 30.0, "cake", False, None),
    (0, 7, 42, 25.0, "milk", True, None),
    (3, 8, 42, 4.0, "tea", False, None),
]
VIEWS = [
    # days ago, user, item, look
    (3, 7, 42, [1.0, 0.0, 0.0, 0.0]),
    (2, 7, 42, None),
    (1, 7, 43, [0.0, 1.0, 0.0, 0.0]),
    (0, 8, 42, [0.0, 0.0, 2.0, 0.0]),
]
STOCK = [(0, 42, 5), (2, 43, 6)]  # a day and more: past its ttl

EXPECTED = {
    "user_profile:orders_7d": 3,
    "user_profile:orders_today": 1,
    "user_profile:spent": 63.0,
    "user_profile:dearest": 30.0,
    "user_profile:favourite": "tea",
    "user_profile:recent_items": [42, 43, 42, 42, 42],
    "user_profile:since_order": 3_600.0,
    "user_profile:teas": 2,
    "user_profile:treats": 30.0,
    "user_profile:taste": [0.5, 0.5, 0.0, 0.0],
    "user_profile:teas_of_all": 2 / 3,
    "item_profile:sold_28d": 4,
    "item_profile:share_again": 3 / 5,
    "item_profile:stock": 5,
    "item_profile:usual_price": 4.0,
    "item_profile:price_spread": float(np.std([2.0, 4.0, 8.0, 25.0, 4.0], ddof=1)),
    "item_profile:buyers": 2,
    "item_profile:category": "milk",
    "item_profile:look": [0.0, 0.0, 2.0, 0.0],
    "item_profile:views": 3,
    "item_profile:conversion": 1.0,
    "prices:harmonic": 4 / (1 / 4 + 1 / 8 + 1 / 25 + 1 / 4),
    "user_item:lines": 4,
    "trends:popular": [42, 43],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    file = tmp_path_factory.mktemp("docs") / "shop.py"
    file.write_text("\n".join(blocks), encoding="utf-8")
    return load_project(file)


@pytest.fixture(scope="module")
def log(project):
    log = MemoryLog()

    def send(event, days, *fields):
        log.append(
            [
                make_record(
                    f"r{log.end()}",
                    *fields,
                    time=NOW - HOUR - days * DAY,
                    schema=project.events[event].schema_id,
                )
            ]
        )

    for days, *fields in LINES:
        send("order_line", days, *fields, None)
    for days, *fields in VIEWS:
        send("view", days, *fields)
    for days, *fields in STOCK:
        send("stock", days, *fields)
    return log


def wanted(project):
    return [feature for view in project.views.values() for feature in view.readable]


def check(found):
    for address, expected in EXPECTED.items():
        (value,) = found[address].values.tolist()
        assert found[address].present.tolist() == [True], address
        if isinstance(expected, float):
            # A quantile may be off by 1 %; all other numbers are exact to the rounding.
            close = 0.01 if address == "item_profile:usual_price" else 1e-12
            assert value == pytest.approx(expected, rel=close), address
        else:
            assert value == expected, address


def test_every_feature_has_its_value_online(project, log):
    store = MemoryStore()
    engine = Engine(project, log, store)
    while engine.run_once(100):
        pass
    with OnlineReader(project, store).snapshot() as snapshot:
        columns = snapshot.read(
            features_of(wanted(project)), {"user_id": 7, "item_id": 42}, None, (), NOW
        )
    found = complete(wanted(project), columns)
    assert set(found) >= set(EXPECTED)
    check(found)


def test_every_feature_has_its_value_in_training(project, log):
    features = features_of(wanted(project))
    spine = Spine({"user_id": [7], "item_id": [42]}, np.array([NOW]), np.array([log.end()]))
    columns = point_in_time(project, features, spine, event_frames(project, log.read(0)))
    check(complete(wanted(project), columns))
