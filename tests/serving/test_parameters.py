"""Parameters: typed, declared, within bounds; whatever else comes gets a 4xx error of ours."""

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feilun.definitions.specs import EntitySpec, ParameterSpec
from feilun.errors import InputError, TooLarge
from feilun.serving.http.exchange import Request
from feilun.serving.http.parameters import KEY_BYTES, Parameters, parse_query
from feilun.serving.http.type_words import in_words

USER = EntitySpec("user_id", "int")
SHOP = EntitySpec("shop", "str")
DECLARED = (
    ParameterSpec("user_id", int, True, None),
    ParameterSpec("shop", str, False, "main"),
    ParameterSpec("item_id", list[int], False, []),
    ParameterSpec("k", int, False, 10),
    ParameterSpec("weight", float, False, 1.0),
    ParameterSpec("note", str | None, False, None),
)
PARAMETERS = Parameters(
    "/api/x", DECLARED, {"user_id": USER, "shop": SHOP, "item_id": EntitySpec("item_id", "int")}
)


def get(query):
    return PARAMETERS.read(Request("GET", "/api/x", query, b"", "r"))


def post(body, query=b""):
    return PARAMETERS.read(Request("POST", "/api/x", query, body, "r"))


def test_a_query_and_a_body_mean_the_same():
    from_query, options = get(b"user_id=7&item_id=1&item_id=2&weight=0.5&min_offset=3&as_of=9")
    from_body, _ = post(b'{"user_id": 7, "item_id": [1, 2], "weight": 0.5}')
    assert from_query == from_body
    assert from_body == {
        "user_id": 7, "shop": "main", "item_id": [1, 2], "k": 10, "weight": 0.5, "note": None,
    }  # fmt: skip
    assert (options.min_offset, options.as_of) == (3, 9)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"user_id": "7"}', "user_id of /api/x must be a whole number; it is a text"),
        (b"{}", "/api/x needs the parameter user_id: a whole number"),
        (b'{"user_id": 1, "k": 1.5}', "k of /api/x must be a whole number; it is a number with"),
        (b'{"user_id": 1, "note": 5}', "note of /api/x must be a text or null; it is a whole"),
        (b'{"user_id": 1, "item_id": [1, "2"]}',
         "item_id of /api/x must be a list of whole numbers; it has a text at [1"),
        (b'{"user_id": 1, "item_id": {}}', "must be a list of whole numbers; it is an object"),
        (b"[1]", "The body is a list."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_plain_words(body, said):
    with pytest.raises(InputError) as refused:
        post(body)
    assert said.split("[1")[0] in refused.value.message
    assert "`" not in str(refused.value)
    assert "$" not in str(refused.value)


def test_what_a_query_gave_is_shown():
    with pytest.raises(InputError, match="user_id of /api/x must be a whole number; it is 'abc'"):
        get(b"user_id=abc")
    with pytest.raises(InputError, match=f"'{'a' * 64}'"):
        get(b"user_id=" + b"a" * 9_000)


def test_every_kind_of_parameter_has_words():
    class Colour(enum.Enum):
        RED = "red"

    @dataclass
    class Point:
        x: int

    kinds = {
        Colour: 'one of "red"',
        Literal[1, "a"]: 'one of 1, "a"',
        list[list[str]]: "a list of lists of texts",
        Point: "an object",
        dict[str, int]: "an object",
        bool | None: "true or false or null",
        datetime: "a time in ISO 8601",
        Annotated[int, msgspec.Meta(ge=0)]: "a whole number",
        Any: "any value",
    }
    assert {kind: in_words(kind) for kind in kinds} == kinds
    parameters = Parameters("/api/x", [ParameterSpec("c", Colour, True, None)], {})
    with pytest.raises(InputError, match='c of /api/x must be one of "red"; it does not fit: '):
        parameters.read(Request("POST", "/api/x", b"", b'{"c": "blue"}', "r"))
    parameters = Parameters("/api/x", [ParameterSpec("c", dict[int, int], True, None)], {})
    with pytest.raises(
        InputError, match="The parameter c of /api/x must be an object; it has a text as a key"
    ):
        parameters.read(Request("POST", "/api/x", b"", b'{"c": {"a": 1}}', "r"))


def test_text_in_a_query_may_be_any_text():
    read, _ = get(b"user_id=1&shop=%E5%8C%97%E4%BA%AC&note=a+%26")
    assert (read["shop"], read["note"]) == ("北京", "a &")


def test_a_default_is_never_shared():
    first, _ = get(b"user_id=1")
    first["item_id"].append(5)
    assert get(b"user_id=1")[0]["item_id"] == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (b"", "user_id"),
        (b"user_id=", "user_id"),
        (b"user_id=abc", "user_id"),
        (b"user_id=1.5", "user_id"),
        (b"user_id=1&user_id=2", "2 times"),
        (b"user_id=9223372036854775808", "64"),
        (b"user_id=" + b"9" * 5000, "user_id"),
        (b"user_id=1&item_id=9223372036854775808", "64"),
        (b"user_id=1&k=99999999999999999999", "64"),
        (b"user_id=1&weight=nan", "finite"),
        (b"user_id=1&weight=inf", "finite"),
        (b"user_id=1&weight=1e999", "range"),
        (b"usr_id=1", "Did you mean 'user_id'"),
        (b"user_id=1&zzz=1", "It takes: user_id, shop"),
        (b"user_id=1&shop=" + b"x" * (KEY_BYTES + 1), "200 UTF-8"),
        (b"user_id=1&shop=", "1 to 200"),
        (b"user_id=1&shop=%ff", "UTF-8"),
        (b"user_id=1&shop=\xe5", "UTF-8"),
        (b"user_id", "name=value"),
        (b"&&&", "name=value"),
        (b"user_id=1;k=2", "user_id"),
        (b"user_id=1&min_offset=-1", "min_offset"),
        (b"user_id=1&min_offset=1&min_offset=2", "min_offset"),
        (b"user_id=1&min_offset=9223372036854775808", "min_offset"),
        (b"user_id=1&as_of=1e9", "as_of"),
        (b"user_id=1&as_of=" + b"1" * 9000, "as_of"),
    ],
)
def test_a_query_that_cannot_be_used_says_why(query, says):
    with pytest.raises(InputError, match=says):
        get(query)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"null", "object"),
        (b"[]", "object"),
        (b'"user_id"', "object"),
        (b'{"user_id": 1', "not JSON"),
        (b'{"user_id": 1}{}', "not JSON"),
        (b'{"user_id": 1,}', "not JSON"),
        (b"{'user_id': 1}", "not JSON"),
        (b'\xef\xbb\xbf{"user_id": 1}', "not JSON"),
        (b'{"user_id": NaN}', "not JSON"),
        (b'{"user_id": 1, "weight": Infinity}', "not JSON"),
        (b'{"user_id": 1, "weight": 1e999}', "range"),
        (b'{"user_id": 1, "weight": -1e400}', "range"),
        (b'{"user_id": "1"}', "whole number; it is"),
        (b'{"user_id": true}', "whole number; it is"),
        (b'{"user_id": 1.0}', "whole number; it is"),
        (b'{"user_id": null}', "whole number; it is"),
        (b'{"user_id": 9223372036854775808}', "64"),
        (b'{"user_id": -9223372036854775809}', "64"),
        (b'{"user_id": ' + b"9" * 100_000 + b"}", "."),
        (b'{"user_id": 1, "weight": 1e999}', "."),
        (b'{"user_id": 1, "usr": 1}', "usr"),
        (b'{"user": 1}', "Did you mean 'user_id'"),
        (b'{"user_id": 1, "shop": "\xff"}', "not JSON"),
        (b'{"user_id": 1, "shop": "\\ud800"}', "not JSON"),
        (b'{"user_id": 1, "note": ' + b"[" * 200_000, "."),
        (b'{"zz": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "."),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "."),
        (b"[" * 1_000_000, "."),
        (b'{"user_id": 1, "item_id": {"0": 1}}', "list of whole numbers"),
        (b'{"user_id": 1, "item_id": [1, "2"]}', "whole numbers; it has a text"),
    ],
)
def test_a_body_that_cannot_be_used_says_why(body, says):
    with pytest.raises(InputError, match=says):
        post(body)


def test_a_post_takes_no_parameter_from_its_query():
    with pytest.raises(InputError, match="in the body"):
        post(b"{}", b"user_id=1")


def test_a_long_query_is_too_large():
    with pytest.raises(TooLarge):
        get(b"user_id=1&note=" + b"x" * 20_000)
    with pytest.raises(InputError):
        get(b"&".join([b"item_id=1"] * 1_500))


@given(st.binary(max_size=200))
def test_any_query_is_read_or_refused(query):
    try:
        get(query)
        parse_query(query)
    except InputError as error:
        assert error.status in (400, 413)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_body_is_read_or_refused(body):
    try:
        post(body)
    except InputError as error:
        assert error.status in (400, 413)


@given(
    st.fixed_dictionaries(
        {"user_id": st.integers(-(2**70), 2**70)},
        optional={
            "shop": st.text(max_size=300),
            "item_id": st.lists(st.integers(-(2**64), 2**64), max_size=3),
            "k": st.integers() | st.floats() | st.none(),
            "weight": st.floats(),
            "note": st.none() | st.text(max_size=20),
        },
    )
)
def test_what_passes_is_within_its_bounds(sent):
    import json

    try:
        read, _ = post(json.dumps(sent).encode())
    except InputError:
        return
    bounds = range(-(2**63), 2**63)
    assert read["user_id"] in bounds and all(item in bounds for item in read["item_id"])
    assert 1 <= len(read["shop"].encode()) <= KEY_BYTES
    assert abs(read["weight"]) < float("inf")
