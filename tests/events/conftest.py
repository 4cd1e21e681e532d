"""A small project whose events the tests send."""

from __future__ import annotations

import pytest

from feilun.definitions.specs import EntitySpec, EventSpec, FieldSpec, Project

ORDER_LINE = EventSpec(
    "order_line",
    1,
    (
        FieldSpec("user_id", "int"),
        FieldSpec("item_id", "int"),
        FieldSpec("price", "float", True),
        FieldSpec("city", "str"),
        FieldSpec("gift", "bool", True),
    ),
    "user_id",
)
TICK = EventSpec("tick", 1, (FieldSpec("note", "str", True),), None)


@pytest.fixture(scope="session")
def project() -> Project:
    return Project(
        name="shop",
        timezone="Asia/Shanghai",
        entities={"user_id": EntitySpec("user_id", "int"), "city": EntitySpec("city", "str")},
        events={"order_line": ORDER_LINE, "tick": TICK},
        views={},
        models={},
        capabilities={},
        flywheels={},
    )
