"""The generated JavaScript client, as text; tests/app/test_tracker.py runs it in a browser."""

import json
import re

import pytest

from feilun.clients.javascript import render_javascript
from feilun.clients.surface import read_surface
from feilun.serving.http.pages import tracker_source


def render(description):
    files = render_javascript(read_surface(description), tracker_source())
    module, types = files["shop_client.js"], files["shop_client.d.ts"]
    return module, types


@pytest.fixture(scope="module")
def rendered(hostile):
    return render(hostile)


def without_texts(source):
    """Take comments and string literals away, as a parser would."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`'
    return re.sub(pattern, "", source, flags=re.DOTALL)


def test_the_same_definitions_give_the_same_bytes(again, description):
    assert render(again) == render(description)


def test_it_needs_nothing(description):
    module, _ = render(description)
    assert not re.search(r"^import |require\(", without_texts(module), re.MULTILINE)


def test_nothing_of_the_definitions_leaves_its_comment_or_string(rendered):
    for text in rendered:
        assert "boom" in text
        assert "boom" not in without_texts(text)
        assert "\x1b" not in text and "\u2028" not in text


def test_names_that_javascript_has_already_get_another(rendered):
    module, types = rendered
    assert "  constructor_(parameters" in module
    assert "  constructor_(parameters" in types


def test_types_are_those_of_the_definitions(description):
    _, types = render(description)
    for line in (
        "click: { user_id: number; item_id: number; time?: number | null;",
        "visit: { city: string; again: boolean; };",
        "export type Tip = { item_id: number; why: string | null; next?: Tip | null; };",
        "places(parameters: { city: string; }, options?: Options & { minOffset?: number; }): "
        "Promise<PlacesReply>;",
        "recent: Array<number>;",
        "tips_batch(requests: Array<{ user_id: number; }>, "
        "options?: Options & { minOffset?: number; personalised?: boolean; }): "
        "Promise<Array<{ status: number; reply?: TipsReply; error?: ErrorBody; }>>;",
    ):
        assert line in types


def test_no_key_is_in_it(description):
    for text in render(description):
        assert not re.search(r"Bearer [A-Za-z0-9]", text)


def test_the_version_is_the_descriptions(description):
    module, types = render(description)
    version = json.dumps(description["info"]["version"])
    assert f"API_VERSION = {version};" in module
    assert f"API_VERSION: {version};" in types
