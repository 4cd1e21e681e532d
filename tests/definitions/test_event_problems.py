"""What is said about mistakes in entities and events."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mistakes import cases, check

ENTITIES_AND_EVENTS = {
    "entity type": (
        'e = fl.Entity("e", float)  # HERE',
        "cannot be the type of a key",
        "int or str",
    ),
    "entity name": ('e = fl.Entity("Kunde", int)  # HERE', "'Kunde' is not a name", "lower-case"),
    "entity of the system": ('e = fl.Entity("feilun_id", int)  # HERE', "kept for the system", ""),
    "entity as an option": ('e = fl.Entity("as_of", int)  # HERE', "every read has", "Rename"),
    "entity twice": ('e = fl.Entity("user_id", str)  # HERE', "another entity", "Keep one"),
    "event name": ("class 订单(fl.Event):  # HERE\n    a: fl.Field[int]", "not a name", ""),
    "event of the system": (
        "class FeilunClick(fl.Event):  # HERE\n    a: fl.Field[int]",
        "kept for the system",
        "",
    ),
    "event twice": (
        "class order(fl.Event):  # HERE\n    a: fl.Field[int]",
        "another event named 'order', at .*shop.py:5 Order",
        "Rename",
    ),
    "event without fields": ("class E(fl.Event): ...  # HERE", "needs a field", "Field"),
    "event version": (
        "class E(fl.Event, version=0):  # HERE\n    a: fl.Field[int]",
        "version=0",
        "from 1",
    ),
    "event of an event": ("class E(Order):  # HERE\n    a: fl.Field[int]", "extends fl.Event", ""),
    "plain annotation": (
        "class E(fl.Event):  # HERE\n    a: int",
        "annotation int is not a field",
        "Write fl.Field",
    ),
    "field type": (
        "class E(fl.Event):  # HERE\n    a: fl.Field[bytes]",
        r"Field\[bytes\] is not a field",
        "int, float, str, bool or fl.Vector",
    ),
    "two field types": (
        "class E(fl.Event):  # HERE\n    a: fl.Field[int | str]",
        "is not a field",
        "",
    ),
    "unknown annotation": (
        "class E(fl.Event):  # HERE\n    a: 'fl.Field[Userid]'",
        "'Userid' is not defined",
        "Import",
    ),
    "field with a value": (
        "class E(fl.Event):  # HERE\n    a: fl.Field[int] = 3",
        "takes no value",
        "Leave it out",
    ),
    "default of a required field": (
        "class E(fl.Event):  # HERE\n    a: fl.Field[int] = fl.Field(default=None)",
        "takes no value",
        "optional",
    ),
    "vector without its length": (
        "class E(fl.Event):  # HERE\n    a: fl.Field[fl.Vector]",
        "a vector of dim=0",
        "1 to 4096",
    ),
    "vector of no length": (
        "class E(fl.Event):  # HERE\n    a: fl.Field[fl.Vector] = fl.Field(dim=2.5)",
        "dim=2.5",
        r"fl\.Field\(dim=8\)",
    ),
    "length of a number": (
        "class E(fl.Event):  # HERE\n    a: fl.Field[int] = fl.Field(dim=8)",
        "only a vector",
        "Leave it out",
    ),
    "field name": ("class E(fl.Event):  # HERE\n    userId: fl.Field[int]", "not a name", ""),
    "field name of every event": (
        "class E(fl.Event):  # HERE\n    to_fields: fl.Field[int]",
        "every event has",
        "Rename",
    ),
}


@pytest.mark.parametrize(("snippet", "what", "fix"), cases(ENTITIES_AND_EVENTS))
def test_each_mistake_is_one_problem(tmp_path, snippet, what, fix):
    check(tmp_path, snippet, what, fix)
