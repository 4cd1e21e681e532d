"""Which changes of an API break its callers: against the schemas' own meaning, and by example."""

import copy
import dataclasses
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feilun.definitions.specs import FieldSpec, ParameterSpec
from feilun.serving.description.api_changes import _Fit, breaking_changes
from feilun.serving.description.openapi import describe


@dataclass
class Tip:
    item: int
    next: "Tip | None"


@dataclass
class TipWithoutNext:
    item: int


TipWithoutNext.__name__ = "Tip"


def changed(shop, name="recommend", **changes):
    """The project's API before and after a change of one capability."""
    before = describe(shop.project, "1")
    capabilities = dict(shop.project.capabilities)
    capabilities[name] = dataclasses.replace(capabilities[name], **changes)
    after = describe(dataclasses.replace(shop.project, capabilities=capabilities), "1")
    return before, after


def parameters(**kinds):
    return tuple(
        ParameterSpec(name, kind, default is None, default)
        for name, (kind, default) in kinds.items()
    )


RETURNS = {
    "the same": (list[int], list[int], True),
    "narrower": (list[float], list[int], True),
    "wider": (list[int], list[float], False),
    "may be null now": (int, int | None, False),
    "is never null now": (int | None, int, True),
    "another type": (list[int], list[str], False),
    "no list any more": (list[int], dict[str, int], False),
    "anything before": (object, int, True),
    "anything now": (int, object, False),
    "a pair of the same": (tuple[int, str], tuple[int, str], True),
    "a pair of others": (tuple[int, str], tuple[int, int], False),
    "a longer pair": (tuple[int, str], tuple[int, str, str], False),
    "no pair any more": (tuple[int, int], list[int], False),
    "a pair of a list": (list[int], tuple[int, int], True),
    "by name": (dict[str, int], dict[str, int], True),
    "others by name": (dict[str, int], dict[str, str], False),
    "holds itself": (Tip, Tip, True),
    "lost a part": (Tip, TipWithoutNext, False),
    "got a part": (TipWithoutNext, Tip, True),
}


@pytest.mark.parametrize(("before", "after", "fine"), RETURNS.values(), ids=RETURNS)
def test_replies(shop, before, after, fine):
    spec = shop.project.capabilities["recommend"]
    shop.project.capabilities["recommend"] = dataclasses.replace(spec, returns=before)
    old, new = changed(shop, returns=after)
    assert (breaking_changes(old, new) == []) == fine


PARAMETERS = {
    "the same": ({"user_id": (int, None), "k": (int, 10)}, True),
    "another default": ({"user_id": (int, None), "k": (int, 20)}, True),
    "one more, optional": ({"user_id": (int, None), "k": (int, 10), "x": (str, "")}, True),
    "one more, required": ({"user_id": (int, None), "k": (int, 10), "x": (str, None)}, False),
    "one less": ({"user_id": (int, None)}, False),
    "wider": ({"user_id": (int, None), "k": (float, 10.0)}, True),
    "another type": ({"user_id": (int, None), "k": (str, "10")}, False),
    "required now": ({"user_id": (int, None), "k": (int, None)}, False),
    "optional now": ({"user_id": (int, 1), "k": (int, 10)}, True),
}


@pytest.mark.parametrize(("after", "fine"), PARAMETERS.values(), ids=PARAMETERS)
def test_requests(shop, after, fine):
    old, new = changed(shop, parameters=parameters(**after))
    assert (breaking_changes(old, new) == []) == fine


def test_what_is_gone_is_missed_and_what_is_new_is_not(shop):
    before = describe(shop.project, "1")
    less = copy.deepcopy(before)
    del less["paths"]["/api/trends"]
    (problem,) = breaking_changes(before, less)
    assert problem.where == "GET /api/trends"
    assert breaking_changes(less, before) == []


def test_a_reason_says_where(shop):
    old, new = changed(shop, returns=list[str])
    problems = breaking_changes(old, new)
    assert [problem.where for problem in problems] == [
        "GET /api/recommend", "POST /api/recommend", "POST /api/recommend/batch",
    ]  # fmt: skip
    assert problems[0].what == "reply.result[]: string does not fit integer."


EVENTS = {
    "one more, optional": (lambda f: (*f, FieldSpec("x", "str", optional=True)), True),
    "one more, required": (lambda f: (*f, FieldSpec("x", "str")), False),
    "one less": (lambda f: f[:-1], False),
    "wider": (lambda f: (*f[:-1], FieldSpec("place", "float")), True),
    "another type": (lambda f: (*f[:-1], FieldSpec("place", "str")), False),
}


@pytest.mark.parametrize(("change", "fine"), EVENTS.values(), ids=EVENTS)
def test_events(shop, change, fine):
    before = describe(shop.project, "1")
    event = shop.project.events["order"]
    events = {"order": dataclasses.replace(event, fields=change(event.fields))}
    after = describe(dataclasses.replace(shop.project, events=events), "1")
    problems = breaking_changes(before, after)
    assert (problems == []) == fine
    assert [problem.what.partition(":")[0].rpartition(".")[0] for problem in problems] == (
        [] if fine else ["events.order.fields"]
    )


def test_an_event_that_is_gone(shop):
    before = describe(shop.project, "1")
    after = describe(dataclasses.replace(shop.project, events={}), "1")
    assert [str(problem).partition(" Keep")[0] for problem in breaking_changes(before, after)] == [
        "POST /api/events: events.order: it is not taken any more."
    ]


schemas = st.recursive(
    st.sampled_from(["integer", "number", "string", "null", "boolean"]).map(lambda t: {"type": t})
    | st.lists(st.sampled_from([1, 2, "a"]), min_size=1, unique=True).map(lambda v: {"enum": v}),
    lambda inner: (
        inner.map(lambda items: {"type": "array", "items": items})
        | st.lists(inner, min_size=1, max_size=2).map(lambda options: {"anyOf": options})
        | st.lists(inner, min_size=1, max_size=2).map(
            lambda items: {
                "type": "array",
                "prefixItems": items,
                "items": False,
                "minItems": len(items),
                "maxItems": len(items),
            }
        )
        | st.builds(
            lambda properties, required, others: {
                "type": "object",
                "properties": properties,
                "required": sorted(required & properties.keys()),
                **({} if others is None else {"additionalProperties": others}),
            },
            st.dictionaries(st.sampled_from("ab"), inner),
            st.sets(st.sampled_from("ab")),
            st.none() | st.just(False) | inner,
        )
    ),
    max_leaves=5,
)
values = st.recursive(
    st.sampled_from([None, True, 1, 2, 1.5, "a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    ),
    max_leaves=4,
)


def closed(schema):
    """The schema of what holds only what is named."""
    if isinstance(schema, dict):
        others = {"additionalProperties": False} if schema.get("type") == "object" else {}
        return others | {key: closed(value) for key, value in schema.items()}
    return [closed(value) for value in schema] if isinstance(schema, list) else schema


@given(schemas, schemas, st.lists(values, min_size=5, max_size=20))
def test_what_is_said_to_fit_fits(one, other, found):
    """Soundness: a value of the one schema is a value of the other, if nothing is said against."""
    jsonschema = pytest.importorskip("jsonschema")
    if list(_Fit({}, {}).misfits(one, other, "")):
        return
    fits = jsonschema.Draft202012Validator(closed(one)), jsonschema.Draft202012Validator(other)
    for value in found:
        assert not fits[0].is_valid(value) or fits[1].is_valid(value), (one, other, value)


@given(schemas)
def test_every_schema_fits_itself(schema):
    assert list(_Fit({}, {}).misfits(schema, schema, "")) == []
