"""What is said about each mistake: one mistake, one problem, at its line, with a way out.

``# HERE`` marks the line that the problem must name.
"""

import re
from pathlib import Path

import pytest

from feilun.definitions.loading import load_project
from feilun.errors import DefinitionError, Problem

PRELUDE = """\
import feilun as fl

user, item = fl.Entity("user_id", int), fl.Entity("item_id", int)

class Order(fl.Event):
    user_id: fl.Field[int]
    item_id: fl.Field[int]
    price: fl.Field[float]
    color: fl.Field[str]
    guest_id: fl.Field[int | None]
    gift: fl.Field[bool]
    look: fl.Field[fl.Vector] = fl.Field(dim=2)

class Profile(fl.FeatureView, entity=user):
    orders = fl.count(Order, window="7d")
    color = fl.last(Order.color)
    recent = fl.last(Order.item_id, n=10)
    colors = fl.top(Order.color, n=3)
    look = fl.last(Order.look)

class Pair(fl.FeatureView, entity=(user, item)):
    orders = fl.count(Order)

label = fl.outcome(Order, within="30m")

@fl.model(features=[Profile, Pair], label=label, metric="auc")
def ranker(data): ...

"""


def problems_of(folder: Path, source: str) -> tuple[str, list[Problem]]:
    """Return the source and all its problems, file names without their folder."""
    file = folder / "shop.py"
    file.write_text(source, encoding="utf-8")
    with pytest.raises(DefinitionError) as caught:
        load_project(file)
    return source, [
        Problem(re.sub(r"^.*/", "", p.where), p.what, p.fix) for p in caught.value.problems
    ]


def view(feature: str) -> str:
    return f"class V(fl.FeatureView, entity=user):\n    f = {feature}  # HERE\n"


def encoder(name: str = "bge", dim: int = 4, digest: str = "a" * 64, into: str = "text") -> str:
    return f"{into} = fl.encoder({name!r}, dim={dim}, digest={digest!r})\n"


def model(**settings: str) -> str:
    given = {"features": "[Profile]", "label": "label", "metric": '"auc"'} | settings
    arguments = ", ".join(f"{name}={value}" for name, value in given.items())
    return f"@fl.model({arguments})  # HERE\ndef other(data): ...\n"


def capability(
    parameters: str = "scored: fl.Scored, user_id: int", path: str = '"/api/x"', **settings: str
) -> str:
    given = {"model": "ranker", "candidates": "[Profile.recent]"} | settings
    arguments = ", ".join([path, *(f"{name}={value}" for name, value in given.items())])
    return f"@fl.capability({arguments})  # HERE\ndef x({parameters}): ...\n"


def asked(parameters: str = "scored: fl.Scored, user_id: int", **settings: str) -> str:
    """Return a capability for another one to ask."""
    wanted = capability(parameters, '"/api/inner"', **settings)
    return wanted.replace("  # HERE", "").replace("def x", "def inner")


def aggregation(
    bases: str = "fl.Aggregation",
    columns: str = '{"n": "<i8"}',
    dtype: str = '"float"',
    lift: str = "staticmethod(print)",
) -> str:
    return f"""\
class Own({bases}):
    columns = {columns}
    dtype = {dtype}
    lift = {lift}
    reduce = finish = staticmethod(print)

class V(fl.FeatureView, entity=user):
    f = fl.custom(Own, Order.price)  # HERE
"""


def where(condition: str, event: str = "Order") -> str:
    return view(f"fl.count({event}, where={condition})")


def flywheel(model: str = "ranker", turn: str = "fl.after(9)", gate: str = "fl.better()") -> str:
    return f"loop = fl.Flywheel({model}, turn={turn}, gate={gate})  # HERE\n"


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

FEATURES = {
    "sum of text": (view("fl.sum(Order.color)"), r"sum\(\) takes a number, and Order.color", ""),
    "mean of text": (view("fl.mean(Order.color)"), r"mean\(\) takes a number", "fl.top"),
    "max of text": (view("fl.max(Order.color)"), r"max\(\) takes a number", ""),
    "quantile of text": (view("fl.quantile(Order.color, 0.5)"), r"quantile\(\) takes a number", ""),
    "quantile in percent": (view("fl.quantile(Order.price, 90)"), "90 is not a share", "0 to 1"),
    "quantile of a truth": (view("fl.quantile(Order.price, True)"), "True is not a share", ""),
    "sum of a vector": (view("fl.sum(Order.look)"), r"sum\(\) takes no vector", "fl.mean"),
    "top of a vector": (view("fl.top(Order.look)"), r"top\(\) takes no vector", "fl.last"),
    "vectors of many tiles": (
        "class Look(fl.Event):\n    user_id: fl.Field[int]\n"
        "    v: fl.Field[fl.Vector] = fl.Field(dim=100)\n"
        "class V(fl.FeatureView, entity=user):\n"
        '    f = fl.mean(Look.v, window="21d", hop="1h")  # HERE\n',
        "505 tiles of vectors of 100 numbers are 402 KB a key, and 64 KB are",
        "at most 80 tiles",
    ),
    "list of vectors": (view("fl.last(Order.look, n=3)"), "no list of vectors", "Leave n= out"),
    "default of a vector": (view("fl.last(Order.look, default=[0])"), "a vector takes no", ""),
    "distinct of an event": (view("fl.distinct(Order)"), "takes a field, not Order", ""),
    "decayed text": (view('fl.decayed("x", half_life="1d")'), "an event or a field, not 'x'", ""),
    "where of a truth": (where("True"), "where=True is not a condition", "Compare a field"),
    "where of a field": (where("Order.gift"), "where=Order.gift is not", ""),
    "where of another event": (
        "class E(fl.Event):\n    user_id: fl.Field[int]\n"
        "    color: fl.Field[str]\n" + where("E.color == 'x'"),
        "looks at E.color, and what is aggregated is 'order'",
        "same event",
    ),
    "where of another type": (
        where("Order.price == '3'"),
        r"\(Order.price == '3'\): the value must be float, not '3'",
        "Order.price is float",
    ),
    "where of a fraction": (where("Order.item_id > 1.5"), "must be int, not 1.5", ""),
    "where of nothing": (where("Order.guest_id == None"), "must be int, not None", ""),
    "where of two fields": (
        where("Order.item_id == Order.user_id"),
        "not the field Order.user_id",
        "",
    ),
    "where of infinity": (where("Order.price < float('inf')"), "must be finite", ""),
    "order of truths": (where("Order.gift > False"), "compares a bool with '>'", "== and !="),
    "where of a vector": (where("Order.look == [1, 2]"), "compares a vector", "numbers and text"),
    "where in text": (where("Order.color.is_in('red')"), "must be a list, not 'red'", ""),
    "where in nothing": (where("~Order.color.is_in([])"), "one or more", ""),
    "where in other types": (where("Order.color.is_in(['a', 3])"), "must be str, not 3", ""),
    "where in half": (
        where("(Order.price > 3) & (Order.color == 3)"),
        "must be str, not 3",
        "Order.color is str",
    ),
    "not an aggregation": (
        view("fl.custom(Order, Order.price)"),
        "Order is not an aggregation",
        "fl.Aggregation",
    ),
    "custom of text": (
        aggregation().replace("Order.price", "Order.color"),
        r"custom\(\) takes a number",
        "",
    ),
    "aggregation of an aggregation": (
        "class Base(fl.Aggregation): ...\n" + aggregation("Base"),
        "extends fl.Aggregation and nothing",
        "",
    ),
    "aggregation without a method": (aggregation(lift="None"), "Own: lift is not", "@staticmethod"),
    "aggregation of text": (aggregation(dtype='"str"'), "dtype='str' is unknown", "float"),
    "aggregation of nothing": (aggregation(columns="{}"), "names no columns", "<i8"),
    "column of another type": (aggregation(columns='{"n": "i4"}'), "'n' is 'i4'", "<f8"),
    "column of the tile": (aggregation(columns='{"time": "<i8"}'), "'time' cannot name", "another"),
    "top of a string": (
        view('fl.top("color")'),
        "takes a field, not 'color'",
        r"fl\.top\(Event\.field",
    ),
    "last of an event": (view("fl.last(Order)"), "takes a field, not Order", "by its event"),
    "count of a field": (view("fl.count(Order.price)"), "takes an event, not Order.price", ""),
    "unknown unit": (view('fl.count(Order, window="7y")'), "'7y' is not a window", "s, m, h, d"),
    "window of nothing": (view('fl.count(Order, window="0d")'), "'0d' is not a window", ""),
    "window of a number": (view("fl.count(Order, window=7)"), "7 is not a window", "such as 12h"),
    "window too long": (
        view('fl.count(Order, window="600w")'),
        "longer than ten years",
        "all time",
    ),
    "calendar misspelt": (
        view('fl.count(Order, window="7 days")'),
        "'7 days' is not a window",
        "7 calendar days",
    ),
    "calendar too long": (
        view('fl.count(Order, window="513 calendar days")'),
        "more than 512 days",
        "sliding",
    ),
    "hop of no window": (view('fl.count(Order, hop="1h")'), "nothing without a window", "window="),
    "hop of a calendar": (
        view('fl.count(Order, window="today", hop="1h")'),
        "hops of a day",
        "Leave",
    ),
    "hop misspelt": (
        view('fl.count(Order, window="1d", hop="hour")'),
        "'hour' is not a duration",
        "Write",
    ),
    "hop too long": (
        view('fl.count(Order, window="1h", hop="2h")'),
        "longer than the window",
        "shorter",
    ),
    "hop beside the day": (
        view('fl.count(Order, window="1d", hop="7h")'),
        "neither divides a day",
        "6h",
    ),
    "too many tiles": (
        view('fl.count(Order, window="7d", hop="5m")'),
        "needs 2016 tiles, and 512",
        'hop="30m"',
    ),
    "too many days": (view('fl.count(Order, window="600d")'), "needs 600 tiles", 'hop="2d"'),
    "half-life misspelt": (
        view('fl.decayed(Order, half_life="month")'),
        "'month' is not a duration",
        "",
    ),
    "ttl misspelt": (view('fl.last(Order.price, ttl="x")'), "'x' is not a duration", ""),
    "ttl with a window": (
        view('fl.last(Order.price, ttl="1d", window="7d")'),
        "ttl= is for a single",
        "Leave",
    ),
    "list of none": (view("fl.last(Order.price, n=0)"), "n=0 is no length", "1 to 1000"),
    "list too long": (view("fl.top(Order.color, n=1001)"), "n=1001 is no length", "1 to 1000"),
    "default of another type": (
        view('fl.min(Order.price, default="x")'),
        "default= must be float, not 'x'",
        "float",
    ),
    "default of a list": (
        view("fl.last(Order.price, n=3, default=1.0)"),
        "a list takes no default",
        "Leave",
    ),
}

MODELS = {
    "model name": (
        '@fl.model(features=[Profile], label=label, metric="auc")  # HERE\ndef Other(data): ...',
        "'Other' is not a name",
        "",
    ),
    "model twice": (
        "first = ranker\n" + model().replace("other", "ranker").replace("# HERE", ""),
        "another model named 'ranker'",
        "Rename",
    ),
    "model without a parameter": (
        model().replace("(data)", "()"),
        "cannot be called with the data",
        "fl.Dataset",
    ),
    "no features": (model(features="[]"), "names no features", "list"),
    "features not a list": (model(features="Profile"), "names no features", "list"),
    "not a feature": (model(features='["orders"]'), "'orders' is neither", "fl.FeatureView"),
    "a feature outside a view": (
        "f = fl.count(Order)  # HERE\n" + model(features="[f]").replace("# HERE", ""),
        "belongs to no view",
        "fl.FeatureView",
    ),
    "a list in a model": (model(features="[Profile.recent]"), "is a list", "candidates"),
    "only lists in a view": (
        "class V(fl.FeatureView):\n    f = fl.top(Order.color, n=2)\n" + model(features="[V]"),
        "only list features",
        "one value",
    ),
    "arithmetic with text": (model(features="[Profile.orders - Profile.color]"), "is text", ""),
    "arithmetic with a vector": (model(features="[Profile.look * 2]"), "is a vector", "numbers"),
    "cosine of numbers": (
        model(features="[fl.cosine(Profile.orders, Profile.look)]"),
        r"fl.cosine\(Profile.orders, Profile.look\) compares a number with a vector of 2",
        "one length",
    ),
    "cosine of other lengths": (
        "class E(fl.Event):\n    user_id: fl.Field[int]\n"
        "    look: fl.Field[fl.Vector] = fl.Field(dim=3)\n"
        "class V(fl.FeatureView, entity=user):\n    f = fl.last(E.look)\n"
        + model(features="[fl.cosine(V.f, Profile.look)]"),
        "a vector of 3 with a vector of 2",
        "one length",
    ),
    "text the same as a number": (
        model(features="[fl.same(Profile.orders, Profile.color)]"),
        "compares a number with text",
        "two texts or two numbers",
    ),
    "the same lists": (
        model(features="[fl.same(Profile.recent, Profile.recent)]"),
        "compares a list",
        "",
    ),
    "an encoder of a number": (
        encoder() + model(features="[text(Profile.orders)]"),
        r"encodes a text, and Profile.orders is a number",
        "fl.request.param",
    ),
    "an encoder of a list": (
        encoder() + model(features="[text(Profile.colors)]"),
        "is a list",
        "one text",
    ),
    "an encoder of nothing": (
        encoder() + model(features="[text('red')]"),
        "encodes a text, and 'red' is 'red'",
        "one text",
    ),
    "an encoder without a version": (
        encoder(digest="latest") + model(features="[text(Profile.color)]"),
        "digest='latest', which is no version",
        "feilun encoder add",
    ),
    "an encoder without a size": (
        encoder(dim=0) + model(features="[text(Profile.color)]"),
        "dim=0",
        "at most",
    ),
    "an encoder without a name": (
        encoder(name="BGE small") + model(features="[text(Profile.color)]"),
        "'BGE small' is not a name",
        "lower-case",
    ),
    "one name for two encoders": (
        encoder()
        + encoder(digest="b" * 64, into="other")
        + model(features="[text(Profile.color), other(Profile.color)]"),
        "another version than elsewhere",
        "another name",
    ),
    "the vector of a text in a view": (
        encoder() + view("text(Profile.color)"),
        "no feature of a view",
        "model",
    ),
    "the likeness of a text in a view": (
        encoder() + view("fl.cosine(text(Profile.color), Profile.look)"),
        "computes from its own features",
        "model",
    ),
    "the cosine of vectors of other sizes": (
        encoder() + model(features="[fl.cosine(text(Profile.color), Profile.look)]"),
        "a vector of 4 with a vector of 2",
        "one length",
    ),
    "a fallback that is the vector of a text": (
        encoder() + capability(fallback="text(Profile.color)"),
        "is a vector",
        "",
    ),
    "a fallback of a parameter that is not there": (
        encoder(dim=2)
        + capability(
            parameters="scored: fl.Scored, user_id: int",
            fallback="fl.cosine(text(fl.request.param('query', str)), Thing.look)",
        ).replace(
            "@fl",
            "class Thing(fl.FeatureView, entity=item):\n    look = fl.last(Order.look)\n\n@fl",
            1,
        ),
        "'query' is a feature, and the request does not have it",
        "query: str",
    ),
    "the request's nothing": (
        model(features="[fl.request.param('', int)]"),
        "'' is not a name",
        "",
    ),
    "the request's list": (
        model(features="[fl.request.param('x', list)]"),
        "list cannot be the type",
        "Write int",
    ),
    "the request's key": (
        model(features="[fl.request.param('user_id', int)]"),
        "'user_id' is a key",
        "features of its entity",
    ),
    "the request's own hour": (
        model(features="[fl.request.param('hour', str)]"),
        "'hour' is the request's own",
        r"fl\.request\.hour",
    ),
    "the request's own hour as a number": (
        model(features="[fl.request.param('hour', int)]"),
        "'hour' is the request's own",
        "rename",
    ),
    "arithmetic with the request's text": (
        model(features="[Profile.orders * fl.request.param('x', str)]"),
        r"fl.request.param\('x', str\) is text",
        "",
    ),
    "arithmetic with a list": (
        model(features="[Profile.orders - Profile.recent]"),
        "is a list",
        "",
    ),
    "arithmetic with a string": (
        model(features='[Profile.orders - "x"]'),
        "'x' cannot take part",
        "finite",
    ),
    "arithmetic with infinity": (
        model(features='[Profile.orders - float("inf")]'),
        "inf cannot take part",
        "finite",
    ),
    "division by zero": (model(features="[Profile.orders / 0]"), "divides by zero", ""),
    "no label": (model(label="Order"), "is not an outcome", r"fl\.outcome"),
    "label of no event": (
        model(label='fl.outcome("Order", within="1d")'),
        "'Order' is not an event",
        "fl.Event",
    ),
    "label within nothing": (model(label='fl.outcome(Order, within="")'), "is not a duration", ""),
    "unknown measure": (
        model(label='fl.outcome(Order, within="1d", measure="sum")'),
        "'sum' is unknown",
        "happened",
    ),
    "label without the model's key": (
        "class E(fl.Event):\n    item_id: fl.Field[int]\n"
        + model(label='fl.outcome(E, within="1d")'),
        "no outcome can be joined: the event 'e' has no field 'user_id'",
        "There are: item_id",
    ),
    "outcome that may be of nobody": (
        "class E(fl.Event):\n    user_id: fl.Field[int | None]\n"
        + model(label='fl.outcome(E, within="1d")'),
        "no outcome can be joined: 'user_id' may be None in the event 'e'",
        "required",
    ),
    "unknown metric": (model(metric='"accuracy"'), "metric='accuracy' is unknown", "auc"),
    "precision at nothing": (model(metric='"precision@0"'), "is unknown", "precision@10"),
    "auc of counts": (
        model(label='fl.outcome(Order, within="1d", measure="count")'),
        "auc does not judge outcomes measured as 'count'",
        'measure="happened"',
    ),
    "wape of what happens": (model(metric='"wape"'), "wape does not judge", 'measure="count"'),
}

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

FLYWHEELS = {
    "not a model": (
        "def nobody(data): ...\n" + flywheel("nobody"),
        "is not a model",
        "There are: ranker",
    ),
    "two loops": (
        flywheel().replace("# HERE", "") + "second" + flywheel(),
        "has a flywheel already",
        "|",
    ),
    "not a trigger": (flywheel(turn="1000"), "turn=1000 is not a trigger", "fl.after"),
    "after nothing": (flywheel(turn="fl.after(0)"), r"after\(0\) counts nothing", "1 or more"),
    "after no event": (flywheel(turn='fl.after(9, "x")'), "counts events, not 'x'", "Name"),
    "not a gate": (flywheel(gate='"better"'), "gate='better' is not a gate", "fl.better"),
    "confidence in percent": (flywheel(gate="fl.better(confidence=95)"), "confidence=95", "0.95"),
    "negative margin": (flywheel(gate="fl.no_worse(margin=-1)"), "margin=-1", "0 or more"),
    "two settings": (
        "a = fl.Settings()\nb = fl.Settings()  # HERE",
        "one Settings",
        "Keep one",
    ),
    "unknown zone": (
        's = fl.Settings(timezone="Asia/Shanghia")  # HERE',
        "is unknown",
        "Did you mean 'Asia/Shan",
    ),
    "zone that is a path": ('s = fl.Settings(timezone="../etc")  # HERE', "is unknown", "IANA"),
    "zone that is no text": ("s = fl.Settings(timezone=8)  # HERE", "is unknown", "IANA"),
}

CASES = [
    pytest.param(*case, id=f"{group}: {name}")
    for group, cases in [
        ("entities and events", ENTITIES_AND_EVENTS),
        ("views", VIEWS),
        ("features", FEATURES),
        ("models", MODELS),
        ("capabilities", CAPABILITIES),
        ("compositions", COMPOSITIONS),
        ("flywheels", FLYWHEELS),
    ]
    for name, case in cases.items()
]  # fmt: skip


@pytest.mark.parametrize(("snippet", "what", "fix"), CASES)
def test_each_mistake_is_one_problem(tmp_path, snippet, what, fix):
    source, problems = problems_of(tmp_path, PRELUDE + snippet)
    assert len(problems) == 1, problems
    (problem,) = problems
    assert re.search(what, problem.what), problem
    assert re.search(fix, problem.fix), problem
    marked = [n for n, line in enumerate(source.splitlines(), 1) if "# HERE" in line]
    if marked:
        assert problem.where.startswith(f"shop.py:{marked[0]} "), (problem.where, marked)


@pytest.mark.parametrize(
    "condition",
    [
        "Order.price > 3 and Order.price < 9",
        "Order.price > 3 or Order.price < 9",
        "not Order.price > 3",
        "3 < Order.price < 9",
        "Order.price in [3, 9]",
        "Order.price > 3 & Order.price < 9",
        "Order.gift & (Order.price < 9)",
    ],
)
def test_conditions_are_not_truths(tmp_path, condition):
    source, (problem,) = problems_of(tmp_path, PRELUDE + where(condition))
    (marked,) = [n for n, line in enumerate(source.splitlines(), 1) if "# HERE" in line]
    assert problem.where.startswith(f"shop.py:{marked} "), problem
    assert "condition" in problem.what
    assert "&" in problem.fix


def test_a_misspelt_field_of_a_condition_is_named(tmp_path):
    _, (problem,) = problems_of(tmp_path, PRELUDE + where("Order.colour == 'red'"))
    assert problem.fix == "Did you mean 'color'?"


def test_capabilities_that_ask_each_other_are_refused_with_the_way_round(tmp_path):
    source = asked(asks="others") + asked(asks="[inner]").replace("inner(", "x(").replace(
        "/api/inner", "/api/x"
    )
    _, problems = problems_of(tmp_path, f"{PRELUDE}others = []\n{source}others.append(x)\n")
    assert sorted(problem.what for problem in problems) == [
        "/api/inner asks /api/x, which asks /api/inner: each would wait for the other.",
        "/api/x asks /api/inner, which asks /api/x: each would wait for the other.",
    ]


def test_the_prelude_alone_is_right(tmp_path):
    (tmp_path / "shop.py").write_text(PRELUDE)
    assert load_project(tmp_path / "shop.py").name == "shop"


def test_all_problems_come_at_once(tmp_path):
    wrong = [
        FEATURES["sum of text"][0],
        FEATURES["too many tiles"][0].replace("class V", "class W"),
        MODELS["unknown metric"][0],
        CAPABILITIES["missing parameter"][0],
        FLYWHEELS["after nothing"][0],
        FLYWHEELS["unknown zone"][0],
    ]
    _, problems = problems_of(tmp_path, PRELUDE + "\n".join(wrong))
    assert len(problems) == len(wrong)


def test_what_depends_on_a_mistake_is_not_blamed(tmp_path):
    source = PRELUDE.replace("fl.Field[float]", "fl.Field[bytes]")
    _, problems = problems_of(tmp_path, source + capability() + flywheel())
    assert [problem.where for problem in problems] == ["shop.py:5 Order.price"]


def test_the_error_says_it_all(tmp_path):
    (tmp_path / "shop.py").write_text(PRELUDE + FEATURES["sum of text"][0])
    with pytest.raises(DefinitionError) as caught:
        load_project(tmp_path / "shop.py")
    assert str(caught.value).endswith(
        "shop.py:30 V.f: sum() takes a number, and Order.color is str. "
        "Choose another field, or fl.first, fl.last, fl.top, which take any type."
    )
