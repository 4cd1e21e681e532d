"""What is said about mistakes in capabilities, alone and with what they ask."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mistakes import PRELUDE, asked, capability, cases, check, model, problems_of

GUEST = """
guest = fl.Entity("guest_id", int)


class Guest(fl.FeatureView, entity=(guest, item)):
    orders = fl.count(Order)

"""


def thompson(parameters: str = "scored: fl.Scored, user_id: int", **settings: str) -> str:
    """Return a capability that explores by Thompson sampling."""
    given = {"successes": "Pair.orders", "trials": "Pair.orders", "top": "9"} | settings
    arguments = ", ".join(f"{name}={value}" for name, value in given.items())
    return GUEST + capability(parameters, explore=f"fl.thompson({arguments})")


CAPABILITIES = {
    "path outside": (capability(path='"/recommend"'), "is not the path", "/api/"),
    "path in capitals": (capability(path='"/api/Recommend"'), "is not the path", "snake_case"),
    "path of the system": (capability(path='"/api/events"'), "is taken", "another path"),
    "path of a view": (capability(path='"/api/profile"'), "is taken", "another path"),
    "path twice": (
        capability().replace("# HERE", "").replace("def x", "def y") + capability(),
        "another capability named '/api/x'",
        "",
    ),
    "no scored": (capability("user_id: int"), "the first parameter", "scored: fl.Scored"),
    "nothing at all": (capability(""), "the first parameter", "scored: fl.Scored"),
    "async": (capability().replace("def x", "async def x"), "is async", "Write def"),
    "unknown annotation": (
        capability("scored: fl.Scored, user_id: 'Int'"),
        "'Int' is not defined",
        "Import",
    ),
    "unannotated": (capability("scored: fl.Scored, user_id: int, k=3"), "nothing cannot be", "int"),
    "unusual type": (
        capability("scored: fl.Scored, user_id: int, k: dict[str, int]"),
        r"dict\[str, int\] cannot be the type",
        r"list\[int\]",
    ),
    "type that is a value": (
        capability("scored: fl.Scored, user_id: int, k: [int] = 1"),
        "cannot be the type",
        "",
    ),
    "default of another type": (
        capability("scored: fl.Scored, user_id: int, k: int = 'x'"),
        "the default must be int, not 'x'",
        "the parameter's type",
    ),
    "default that is no list": (
        capability("scored: fl.Scored, user_id: int, k: list[int] = 3"),
        "must be a list",
        "",
    ),
    "any parameters": (
        capability("scored: fl.Scored, user_id: int, **rest: int"),
        "named parameters only",
        "",
    ),
    "parameter of every read": (
        capability("scored: fl.Scored, user_id: int, as_of: int = 1"),
        "has 'as_of' already",
        "",
    ),
    "parameter name": (
        capability("scored: fl.Scored, user_id: int, K: int = 1"),
        "'K' is not a name",
        "",
    ),
    "not a model": (
        capability(model="print"),
        "is not a model",
        "fl.model decorates",
    ),
    "candidates not a list": (capability(candidates="Profile.recent"), "is not a list", r"\[ \]"),
    "candidate not a feature": (
        capability(candidates="['x']"),
        "'x', which is not",
        "by their view",
    ),
    "one value as candidates": (capability(candidates="[Profile.orders]"), "is one value", "n="),
    "candidates outside a view": (
        "f = fl.top(Order.item_id, n=3)  # HERE\n"
        + capability(candidates="[f]").replace("# HERE", ""),
        "belongs to no view",
        "",
    ),
    "candidates of no key": (
        capability(candidates="[Profile.colors]"),
        "differ by 'color', which is no key",
        "item_id",
    ),
    "candidates of two keys": (
        capability(candidates="[Profile.recent, Profile.colors]"),
        "item_id or color",
        "item=",
    ),
    "candidates of another type": (
        capability(candidates="[Profile.colors]", item="item"),
        "are str, but 'item_id' is int",
        "",
    ),
    "candidates by the item": (
        "class V(fl.FeatureView, entity=item):\n    f = fl.last(Order.item_id, n=3)\n"
        + capability(candidates="[V.f]"),
        "when 'item_id' is known",
        "without this entity",
    ),
    "no rows": (capability(candidates="[]"), "no telling which rows", r"item_id: list\[int\]"),
    "no rows for the item": (
        capability(candidates="[]", item="item"),
        "nothing says which rows",
        r"item_id: list\[int\]",
    ),
    "item that is no key": (
        "shop = fl.Entity('shop_id', int)\n" + capability(item="shop"),
        "differ by 'shop_id', which is no key",
        "of that entity",
    ),
    "item as one value": (
        capability("scored: fl.Scored, user_id: int, item_id: int"),
        "names the rows to score, and is int",
        r"list\[int\]",
    ),
    "missing parameter": (
        capability("scored: fl.Scored, usr_id: int"),
        "profile:orders is read by 'user_id'",
        "Did you mean 'usr_id'",
    ),
    "missing parameter of what is read": (
        "shop = fl.Entity('guest', int)\nclass E(fl.Event):\n    guest: fl.Field[int]\n"
        "class V(fl.FeatureView, entity=shop):\n    f = fl.count(E)\n" + capability(reads="[V.f]"),
        "v:f is read by 'guest'",
        "Add a parameter guest: int",
    ),
    "parameter of another type": (
        capability("scored: fl.Scored, user_id: str"),
        "'user_id' is str, but as a key",
        "as int",
    ),
    "fallback of another type": (
        capability(fallback="Profile.colors"),
        "lists str, but 'item_id' is int",
        "",
    ),
    "fallback for nobody": (
        capability(fallback="Profile.orders"),
        "is not a number for each 'item_id'",
        "",
    ),
    "fallback of the request": (capability(fallback="fl.request.hour"), "alike for all rows", ""),
    "request without a feature of its own": (
        model(features="[Profile, Pair, fl.request.param('device', str)]").replace("# HERE", "")
        + capability("scored: fl.Scored, user_id: int, devise: str", model="other"),
        "'device' is a feature, and the request does not",
        "device: str. Did you mean 'devise'",
    ),
    "feature of the request of another type": (
        model(features="[Profile, Pair, fl.request.param('device', str)]").replace("# HERE", "")
        + capability("scored: fl.Scored, user_id: int, device: int", model="other"),
        "is int, but as a feature it is str",
        "as str",
    ),
    "opt-out not true or false": (
        capability(opt_out="Profile.color"),
        "profile:color is not true or false",
        "bool",
    ),
    "opt-out of somebody else": (
        capability(opt_out="Pair.orders"),
        "pair:orders is not about whom the request is about",
        "user_id",
    ),
    "exploration not one": (
        capability(explore="0.1"),
        "explore=0.1 is no exploration",
        "fl.epsilon",
    ),
    "exploration of nobody": (capability(explore="fl.epsilon(0, top=9)"), "0 is no share", "above"),
    "exploration of more than all": (
        capability(explore="fl.epsilon(1.5, top=9)"),
        "1.5 is no share",
        "at most 1",
    ),
    "exploration of one item": (
        capability(explore="fl.epsilon(0.1, top=1)"),
        "nothing to shuffle in top=1",
        "2 or more",
    ),
    "sampling of one item": (thompson(top="1"), "top=1 is no number of items", "2 to 50"),
    "sampling of too many items": (thompson(top="51"), "top=51 is no number of items", "2 to 50"),
    "sampling of a share of items": (thompson(top="2.0"), "top=2.0 is no number", "2 to 50"),
    "prior of one number": (thompson(prior="2"), "prior=2 is no belief", "two numbers"),
    "prior of three numbers": (thompson(prior="(1, 1, 1)"), "is no belief", "two numbers"),
    "prior of nothing": (thompson(prior="(0, 1)"), r"\(0, 1\) is no belief", "0.1 to 1000000"),
    "prior of texts": (thompson(prior="('1', '1')"), "is no belief", "two numbers"),
    "successes not a feature": (
        thompson(successes="Pair"),
        "successes= names Pair",
        "by their view",
    ),
    "trials not a feature": (thompson(trials="9"), "trials= names 9", "by their view"),
    "trials alike for all": (
        thompson(trials="Profile.orders"),
        "profile:orders is alike for all rows",
        "from a view of 'item_id'",
    ),
    "successes that are text": (
        thompson(successes="Profile.color"),
        "profile:color is not a number",
        "Take a count",
    ),
    "successes that are many": (
        thompson(successes="Profile.recent"),
        "profile:recent is not a number",
        "Take a count",
    ),
    "trials of a key that the request does not have": (
        thompson(trials="Guest.orders", parameters="scored: fl.Scored, user_id: int"),
        "guest:orders is read by 'guest_id'",
        "guest_id: int",
    ),
    "fallback not a feature": (capability(fallback="Profile"), "which is not a feature", "view"),
}

SHOP = "shop = fl.Entity('guest_id', int)\n"

COMPOSITIONS = {
    "also not a list": (capability(also="ranker"), "also=.* is not a list", r"\[ \]"),
    "also not a model": (capability(also="[print]"), "which is not a model", "fl.model decorates"),
    "also itself": (capability(also="[ranker]"), "ranker scores the rows already", "once"),
    "also twice": (
        model(features="[Pair]").replace("# HERE", "") + capability(also="[other, other]"),
        "other scores the rows already",
        "once",
    ),
    "also all alike": (
        model(features="[Profile]").replace("# HERE", "") + capability(also="[other]"),
        "differ by 'item_id', which is no key of the model 'other'",
        "of that entity",
    ),
    "also by a parameter": (
        model(features="[Pair, fl.request.param('device', str)]").replace("# HERE", "")
        + capability(also="[other]"),
        "'device' is a feature, and the request does not",
        "device: str",
    ),
    "asks not a list": (capability(asks="ranker"), "asks=.* is not a list", r"\[ \]"),
    "asks not a capability": (
        capability(asks="[ranker]"),
        "which is not a capability",
        "fl.capability decorates",
    ),
    "asks twice": (asked() + capability(asks="[inner, inner]"), "/api/inner is asked twice", ""),
    "asks without a parameter": (
        asked("scored: fl.Scored, user_id: int, shelf: str")
        + capability("scored: fl.Scored, user_id: int, shelve: str", asks="[inner]"),
        "/api/inner, which it asks, takes 'shelf'",
        "shelf: str, or .* Did you mean 'shelve'",
    ),
    "asks with another type": (
        asked("scored: fl.Scored, user_id: int, k: float = 1.0")
        + capability("scored: fl.Scored, user_id: int, k: int = 1", asks="[inner]"),
        "'k' is int, but /api/inner, which it asks, takes float",
        "alike",
    ),
    "asks about others' rows": (
        model(features="[Profile]").replace("# HERE", "")
        + asked("scored: fl.Scored, user_id: list[int]", model="other", candidates="[]")
        + capability(asks="[inner]"),
        "'user_id' is int, but /api/inner, which it asks, takes list",
        "another name",
    ),
    "asks about somebody else": (
        SHOP
        + asked("scored: fl.Scored, guest_id: int, user_id: int")
        + capability("scored: fl.Scored, user_id: int, guest_id: int", asks="[inner]"),
        "about 'user_id', but /api/inner, which it asks, is about 'guest_id'",
        "user_id first",
    ),
}


@pytest.mark.parametrize(("snippet", "what", "fix"), cases(CAPABILITIES | COMPOSITIONS))
def test_each_mistake_is_one_problem(tmp_path, snippet, what, fix):
    check(tmp_path, snippet, what, fix)


def test_capabilities_that_ask_each_other_are_refused_with_the_way_round(tmp_path):
    source = asked(asks="others") + asked(asks="[inner]").replace("inner(", "x(").replace(
        "/api/inner", "/api/x"
    )
    _, problems = problems_of(tmp_path, f"{PRELUDE}others = []\n{source}others.append(x)\n")
    assert sorted(problem.what for problem in problems) == [
        "/api/inner asks /api/x, which asks /api/inner: each would wait for the other.",
        "/api/x asks /api/inner, which asks /api/x: each would wait for the other.",
    ]
