"""Generated clients against a running platform."""

import importlib.util
import json

import pytest


@pytest.fixture(scope="module")
def client_module(running, tmp_path_factory):
    """The Python client that `feilun client` writes, imported."""
    folder = tmp_path_factory.mktemp("client")
    running.run("client", "python", "--out", folder)
    spec = importlib.util.spec_from_file_location("shop_client", folder / "shop_client.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(running, client_module):
    client = client_module.Client(f"http://127.0.0.1:{running.port}", source="till")
    yield client
    client.close()


def test_a_tracked_event_is_read_and_recommended(running, client, until):
    ids = [client.track_click({"user_id": 70, "item_id": item}) for item in (5, 5, 6)]
    assert len(set(ids)) == 3
    client.flush()
    until(lambda: client.user_profile(user_id=70)["features"]["clicks"] == 3)
    profile = client.user_profile(user_id=70)
    assert profile["features"]["top_items"] == [5, 6]
    reply = client.recommend(user_id=70, k=1)
    assert (reply["result"], reply["model"], reply["version"]) == ([5], "ranker", None)
    assert "no_model" in reply["degraded"]
    assert client.trends()["features"]["popular"]


def test_a_read_sees_its_own_write(running, client):
    _, reply = running.call(
        "/api/events", {"event": "click", "fields": {"user_id": 71, "item_id": 1}}
    )
    offset = reply["events"][0]["offset"]
    profile = client.user_profile(user_id=71, min_offset=offset)
    assert profile["features"]["clicks"] == 1
    assert client.recommend(user_id=71, min_offset=offset)["folded_offset"] > offset


def test_many_at_once_are_answered_each_in_its_place(running, client, client_module):
    fields = {"user_id": 72, "item_id": 5}
    _, reply = running.call("/api/events", {"event": "click", "fields": fields})
    offset = reply["events"][0]["offset"]
    asked = [{"user_id": 72, "k": 1}, {"user_id": 2**70}, {"user_id": 73, "k": 0}]
    first, wrong, last = client.recommend_batch(asked, min_offset=offset)
    assert [each["status"] for each in (first, wrong, last)] == [200, 400, 200]
    assert (len(first["reply"]["result"]), last["reply"]["result"]) == (1, [])
    assert last["reply"]["folded_offset"] > offset
    assert (wrong["error"]["code"], "reply" in wrong) == ("bad_input", False)
    assert client.recommend_batch([]) == []
    with pytest.raises(client_module.ApiError) as caught:
        client.recommend_batch([{"user_id": 72}] * 101)
    assert caught.value.status == 413


def test_somebody_may_be_answered_without_personalisation(client):
    client.flush()
    assert "not_personalised" not in client.recommend(user_id=70)["degraded"]
    assert "not_personalised" in client.recommend(user_id=70, personalised=False)["degraded"]
    (many,) = client.recommend_batch([{"user_id": 70}], personalised=False)
    assert "not_personalised" in many["reply"]["degraded"]


def test_what_is_asked_again_under_its_id_is_answered_as_before(client, client_module):
    first = client.recommend(user_id=70, request_id="order 7/a")
    assert client.recommend(user_id=70, request_id="order 7/a") == first
    with pytest.raises(client_module.ApiError) as conflict:
        client.recommend(user_id=71, request_id="order 7/a")
    assert (conflict.value.status, conflict.value.code) == (409, "conflict")


def test_the_gateway_is_told_how_long_a_caller_waits(client, client_module):
    with pytest.raises(client_module.ApiError) as late:
        client.trends(min_offset=10**9, timeout=0.2)
    assert (late.value.status, late.value.code) == (504, "too_late")
    assert client.trends()["view"] == "trends"  # on the same connection, with time enough


def test_an_error_says_what_to_do(client, client_module):
    with pytest.raises(client_module.ApiError, match="64 bits") as caught:
        client.recommend(user_id=2**70)
    error = caught.value
    assert (error.status, error.code, error.retry_after) == (400, "bad_input", None)
    assert error.request_id


def test_not_now_says_when(client, client_module):
    with pytest.raises(client_module.ApiError) as caught:
        client.trends(min_offset=10**9)
    assert (caught.value.status, caught.value.code) == (503, "behind")
    assert caught.value.retry_after == 1


def test_nobody_there(client_module, shop):
    with pytest.raises(client_module.ApiError) as caught:
        client_module.Client(f"http://127.0.0.1:{shop.port}").trends()
    assert (caught.value.status, caught.value.code) == (0, "unreachable")


def test_an_event_that_is_none_is_told_at_the_flush(client):
    from feilun.errors import InputError

    client.track_click({"user_id": "x", "item_id": 1})
    with pytest.raises(InputError, match="refused"):
        client.flush()


def test_a_client_lives_through_a_restart_of_the_gateway(shop, start, client_module):
    with start(shop):
        client = client_module.Client(f"http://127.0.0.1:{shop.port}")
        assert client.trends()["view"] == "trends"
    with start(shop):
        assert client.trends()["view"] == "trends"
        client.close()


def test_the_description_is_the_one_that_is_served(running, tmp_path):
    running.run("client", "openapi", "--out", tmp_path)
    _, served = running.call("/openapi.json")
    assert json.loads((tmp_path / "openapi.json").read_text("utf-8")) == served
    version = served["info"]["version"]
    running.run("client", "python", "--out", tmp_path)
    assert f"version {version}" in (tmp_path / "shop_client.py").read_text("utf-8")


def test_a_client_is_written_over_its_own_kind_only(shop, tmp_path):
    out = tmp_path / "out"
    for language in ("python", "javascript", "openapi"):
        shop.run("client", language, "--out", out)
        shop.run("client", language, "--out", out)
    (out / "shop_client.d.ts").write_text("export type Mine = 1;\n")
    before = (out / "shop_client.js").read_bytes()
    result = shop.run("client", "javascript", "--out", out, code=2)
    assert "is there already" in result.stderr
    assert (out / "shop_client.js").read_bytes() == before
    assert (out / "shop_client.d.ts").read_text() == "export type Mine = 1;\n"


def test_a_language_that_there_is_none_for(shop, tmp_path):
    result = shop.run("client", "cobol", "--out", tmp_path / "out", code=2)
    assert "python, javascript, openapi" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_change_that_callers_could_not_bear_is_told(shop, tmp_path):
    shop.run("client", "openapi", "--out", tmp_path)
    before = tmp_path / "openapi.json"
    shop.run("check", "--api", before)
    source = (shop.root / "shop.py").read_text("utf-8")
    grown = source.replace("k: int = 10)", "k: int = 10, page: int = 0)")
    (shop.root / "shop.py").write_text(grown, "utf-8")
    shop.run("check", "--api", before)
    (shop.root / "shop.py").write_text(source.replace("k: int = 10)", "n: int = 10)"), "utf-8")
    result = shop.run("check", "--api", before, code=2)
    assert "POST /api/recommend: request.body.k: it is not taken any more." in result.stderr
    result = shop.run("check", "--api", shop.root / "shop.py", code=2)
    assert "feilun client openapi" in result.stderr
