"""What is said about mistakes in models."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mistakes import cases, check, model

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


@pytest.mark.parametrize(("snippet", "what", "fix"), cases(MODELS))
def test_each_mistake_is_one_problem(tmp_path, snippet, what, fix):
    check(tmp_path, snippet, what, fix)
