"""What is said about mistakes in views."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mistakes import cases, check, view

VIEWS = {
    "view name": (
        "class Feilun(fl.FeatureView):  # HERE\n    f = fl.count(Order)",
        "kept for",
        "",
    ),
    "view twice": (
        "class profile(fl.FeatureView):  # HERE\n    f = fl.count(Order)",
        "another view named 'profile'",
        "Rename",
    ),
    "view on the system's route": (
        "class Events(fl.FeatureView):  # HERE\n    f = fl.count(Order)",
        "/api/events is the system's own",
        "Rename",
    ),
    "view without features": ("class V(fl.FeatureView): ...  # HERE", "needs a feature", ""),
    "view of a view": (
        "class V(Profile, entity=user):  # HERE\n    f = fl.count(Order)",
        "extends",
        "Write its",
    ),
    "view of no entity": (
        'class V(fl.FeatureView, entity="user_id"):  # HERE\n    f = fl.count(Order)',
        "is not an entity",
        r"fl\.Entity",
    ),
    "view of an entity twice": (
        "class V(fl.FeatureView, entity=(user, user)):  # HERE\n    f = fl.count(Order)",
        "comes twice",
        "once",
    ),
    "arithmetic in a view": (
        "class V(fl.FeatureView):\n    f = Profile.orders * 2  # HERE",
        "a view computes from its own features, and Profile.orders",
        "Move it",
    ),
    "view as a part of addresses": (
        "class Request(fl.FeatureView):  # HERE\n    f = fl.count(Order)",
        "is the system's own",
        "Rename",
    ),
    "arithmetic in a view with text": (
        "class V(fl.FeatureView, entity=user):\n"
        "    a = fl.last(Order.color)\n    f = a * 2  # HERE",
        "V.a is text",
        "numbers",
    ),
    "arithmetic in a view with what has no name": (
        "class V(fl.FeatureView):\n    f = fl.count(Order) / 2  # HERE",
        "belongs to no view",
        "attribute",
    ),
    "arithmetic in a view under two names": (
        "class V(fl.FeatureView):\n    a = fl.count(Order)\n    b = a / 2  # HERE\n    c = b",
        "V.b under a second name",
        "one address",
    ),
    "arithmetic in a view with a view that is met later": (
        "def other():\n    class Hidden(fl.FeatureView):\n        x = fl.count(Order)\n"
        "    return Hidden\n"
        "class V(fl.FeatureView):\n    a = fl.count(Order)\n    f = a / (other().x + 1)  # HERE",
        "Hidden.x is not one",
        "Move it",
    ),
    "the request in a view": (
        "class V(fl.FeatureView):\n    f = fl.request.hour  # HERE",
        "no feature of a view",
        "of a model",
    ),
    "arithmetic with the request in a view": (
        "class V(fl.FeatureView):\n    a = fl.count(Order)\n    f = a / fl.request.hour  # HERE",
        "fl.request.hour is not one",
        "Move it",
    ),
    "one feature, two names": (
        "class V(fl.FeatureView):\n    f = Profile.orders",
        "under a second name",
        "Write",
    ),
    "feature name": (
        "class V(fl.FeatureView):\n    Orders = fl.count(Order)  # HERE",
        "not a name",
        "",
    ),
    "feature of the system": (
        "class V(fl.FeatureView):\n    feilun_f = fl.count(Order)  # HERE",
        "kept for",
        "",
    ),
    "entity missing in the event": (
        "class E(fl.Event):\n    userid: fl.Field[int]\n" + view("fl.count(E)"),
        "'e' has no field 'user_id'",
        "Did you mean 'userid'",
    ),
    "entity of another type": (
        "class E(fl.Event):\n    user_id: fl.Field[str]\n" + view("fl.count(E)"),
        "'user_id' is str in the event 'e', but int",
        "same type",
    ),
}


@pytest.mark.parametrize(("snippet", "what", "fix"), cases(VIEWS))
def test_each_mistake_is_one_problem(tmp_path, snippet, what, fix):
    check(tmp_path, snippet, what, fix)
