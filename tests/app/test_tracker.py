"""The tracker in a real browser, against a running platform: each event counts once.

The page stands on ``localhost`` and the gateway on ``127.0.0.1``: two sites to a browser.
"""

import http.client
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from feilun.records.record import LATE

CHROMIUM = Path("/usr/bin/chromium")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}"),
    pytest.mark.xdist_group("browser"),
]

PAGE = """<!doctype html><title>Shop</title><script type="module">
import {{ Tracker }} from "http://127.0.0.1:{gateway}/feilun.js";
window.tracker = new Tracker({{ url: "http://127.0.0.1:{to}" }});
</script>"""


class Pages(ThreadingHTTPServer):
    """A web shop's own server: every path is a page that tracks."""

    daemon_threads = True

    def __init__(self, html=""):
        self.html = html
        super().__init__(("127.0.0.1", 0), _PageHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def origin(self):
        return f"http://localhost:{self.server_port}"


class _PageHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.server.html.encode())

    def log_message(self, *_):
        pass


class Between(ThreadingHTTPServer):
    """Stands before the gateway and misbehaves: ``fault`` says how, for each request."""

    daemon_threads = True

    def __init__(self, gateway):
        self.gateway, self.faults, self.fault, self.bodies = gateway, [], "", []
        super().__init__(("127.0.0.1", 0), _BetweenHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _BetweenHandler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.bodies.append(body)
        fault = server.faults.pop(0) if server.faults else server.fault
        if fault == "close":
            return
        if fault == "busy":
            self._answer(429, b'{"error": {}}', {"Retry-After": "1"})
            return
        with closing(http.client.HTTPConnection("127.0.0.1", server.gateway, timeout=10)) as to:
            names = ("Origin", "Content-Type", "Sec-Fetch-Site")
            headers = {name: self.headers[name] for name in names if self.headers[name]}
            to.request("POST", self.path, body, headers)
            reply = to.getresponse()
            raw, said = reply.read(), dict(reply.getheaders())
        if fault != "close after commit":
            self._answer(reply.status, raw, said)

    def _answer(self, status, body, headers):
        self.send_response(status)
        self.send_header("Access-Control-Allow-Origin", self.headers["Origin"])
        self.send_header("Access-Control-Expose-Headers", "retry-after")
        for name, value in headers.items():
            if name.lower() in ("content-type", "retry-after"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def pages():
    server = Pages()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def site(pages, tmp_path_factory, start, shop_maker):
    """A shop whose gateway takes events from the pages' origin, running."""
    shop = shop_maker(tmp_path_factory.mktemp("shop"))
    with (shop.root / "feilun.toml").open("a") as settings:
        settings.write(f'origins = ["{pages.origin}"]\n')
    pages.html = PAGE.format(gateway=shop.port, to=shop.port)
    shop.pages = pages
    with start(shop):
        yield shop


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visitor(chromium):
    """Somebody's browser: storage of its own, and what its console said."""
    context = chromium.new_context()
    context.said = []
    context.on("console", lambda message: context.said.append(message.text))
    yield context
    context.close()


@pytest.fixture
def between(site):
    server = Between(site.port)
    before = site.pages.html
    site.pages.html = PAGE.format(gateway=site.port, to=server.server_port)
    yield server
    site.pages.html = before
    server.shutdown()
    server.server_close()


def visit(visitor, site, path="/"):
    page = visitor.new_page()
    page.goto(site.pages.origin + path)
    page.wait_for_function("window.tracker")
    return page


def track(page, user, items, **fields):
    """Track a click on each item in one go."""
    return page.evaluate(
        "([user, items]) => items.map(item => tracker.track('click', "
        "{user_id: user, item_id: item}))",
        [user, list(items)],
    )


def stored(site, user):
    """The items of a user's clicks in the log, and their ids."""
    from feilun.adapters.lmdb import LmdbEventLog

    with closing(LmdbEventLog(site.root / ".feilun" / "log")) as log:
        records = [r for _, r in log.read(0, 1_000_000) if r.subject == f"user_id={user}"]
    assert {record.source for record in records} <= {"page"}
    assert not [record.id for record in records if record.flags & LATE]
    items = sorted(msgspec.msgpack.decode(record.body)[1] for record in records)
    return items, sorted(record.id for record in records)


def counted(site, user):
    _, reply = site.call(f"/api/user_profile?user_id={user}")
    return reply["features"]["clicks"]


def arrives(site, until, user, items):
    """Each item is stored once, and counted once."""
    until(lambda: len(stored(site, user)[0]) >= len(items), 20)
    assert stored(site, user)[0] == sorted(items)
    until(lambda: counted(site, user) == len(items), 20)


def waiting(page):
    return page.evaluate("tracker.waiting")


def test_a_page_sends_what_it_tracks_in_one_batch(site, visitor, until):
    page = visit(visitor, site)
    ids = track(page, 1, range(5))
    arrives(site, until, 1, range(5))
    assert stored(site, 1)[1] == sorted(ids)
    assert all(id[14] == "7" and id[19] in "89ab" for id in ids)
    page.wait_for_function("tracker.waiting === 0")
    assert page.evaluate("localStorage.length") == 0
    assert visitor.said == []


def test_the_gateway_takes_a_page_for_what_it_is(site, visitor):
    """Nothing else of the API answers a page, and a page of another origin is not answered."""
    page = visit(visitor, site)
    as_json = """url => fetch(url, {method: 'POST', headers: {'Content-Type': 'application/json'},
        body: '{"event": "click", "fields": {"user_id": 20, "item_id": 1}}'})
        .then(reply => reply.status, () => 'blocked')"""
    assert page.evaluate(as_json, f"http://127.0.0.1:{site.port}/api/events") == 200  # preflighted
    ask = "url => fetch(url).then(reply => reply.status, () => 'blocked')"
    for path in ("/api/trends", "/api/recommend?user_id=1", "/status", "/openapi.json"):
        assert page.evaluate(ask, f"http://127.0.0.1:{site.port}{path}") == "blocked"
    page.goto(site.pages.origin.replace("localhost", "127.0.0.1"))
    event = '{"event": "click", "id": "foreign", "fields": {"user_id": 2, "item_id": 1}}'
    send = (
        f"url => fetch(url, {{method: 'POST', body: '{event}'}})"
        ".then(() => 'sent', () => 'blocked')"
    )
    assert page.evaluate(send, f"http://127.0.0.1:{site.port}/api/events") == "blocked"
    assert stored(site, 2)[0] == []


def test_many_events_go_in_several_batches(site, visitor, until):
    page = visit(visitor, site)
    track(page, 3, range(350))
    arrives(site, until, 3, range(350))


def test_what_is_tracked_last_survives_the_page(site, visitor, until):
    """Closed at once: nothing was sent before, for events linger for a second."""
    page = visit(visitor, site)
    track(page, 4, range(90))  # more than 10 kB
    page.close(run_before_unload=True)
    arrives(site, until, 4, range(90))
    visit(visitor, site)  # what the beacon carried is sent again, and is a duplicate
    arrives(site, until, 4, range(90))


def test_what_is_tracked_last_survives_a_navigation(site, visitor, until):
    page = visit(visitor, site)
    page.evaluate("tracker.track('click', {user_id: 5, item_id: 1}); location.href = 'about:blank'")
    page.wait_for_url("about:blank")
    arrives(site, until, 5, [1])


def test_more_than_a_beacon_carries_is_sent_by_the_next_page(site, visitor, until):
    page = visit(visitor, site)
    page.evaluate(
        "for (let item = 0; item < 900; item++)"
        " tracker.track('click', {user_id: 6, item_id: item}); location.href = '/next'"
    )
    page.wait_for_function("window.tracker")
    arrives(site, until, 6, range(900))


def test_events_of_a_page_that_was_reloaded_are_sent_by_the_new_one(site, between, visitor, until):
    between.fault = "close"
    page = visit(visitor, site)
    ids = track(page, 7, range(10))
    until(lambda: between.bodies)
    page.reload()
    page.wait_for_function("window.tracker")
    assert waiting(page) == 10
    between.fault = ""
    arrives(site, until, 7, range(10))
    assert stored(site, 7)[1] == sorted(ids)


def test_a_lost_answer_makes_a_duplicate_that_counts_once(site, between, visitor, until):
    between.faults = ["close after commit"] * 2
    page = visit(visitor, site)
    track(page, 8, range(10))
    until(lambda: len(between.bodies) == 3, 20)
    page.wait_for_function("tracker.waiting === 0")
    arrives(site, until, 8, range(10))
    first, *others = ([event["id"] for event in msgspec.json.decode(body)["events"]]
                      for body in between.bodies)  # fmt: skip
    assert all(other == first for other in others)


def test_a_gateway_that_is_busy_is_given_the_time_it_asks_for(site, between, visitor, until):
    between.faults = ["busy"]
    page = visit(visitor, site)
    page.evaluate(
        "tracker.track('click', {user_id: 9, item_id: 1}); window.began = performance.now();"
        "void tracker.flush()"
    )
    page.wait_for_function("tracker.waiting === 0")
    assert page.evaluate("performance.now() - window.began") >= 1_000
    assert len(between.bodies) == 2
    arrives(site, until, 9, [1])


def test_a_bad_event_is_dropped_with_a_warning_and_the_others_are_kept(site, visitor, until):
    page = visit(visitor, site)
    page.evaluate(
        "tracker.track('click', {user_id: 10, item_id: 1});"
        "tracker.track('click', {user_id: 'x', item_id: 1});"
        "tracker.track('clack', {user_id: 10});"
        "tracker.track('click', {user_id: 10, item_id: 2});"
    )
    page.wait_for_function("tracker.waiting === 0")
    arrives(site, until, 10, [1, 2])
    assert len(visitor.said) == 2
    assert all("was refused" in text for text in visitor.said)
    assert any("fields.user_id" in text for text in visitor.said)


def test_what_waits_is_bounded(site, between, visitor):
    between.fault = "close"
    page = visit(visitor, site)
    ids = track(page, 11, range(1_100))
    assert ids.count(None) == 100
    assert waiting(page) == 1_000
    assert page.evaluate("localStorage.length") == 1_000
    assert page.evaluate(
        "tracker.track('click', {user_id: 11, text: 'x'.repeat(30000)})"
    ) is None  # fmt: skip
    assert sum("was not taken" in text for text in visitor.said) == 101


def test_two_tabs(site, between, visitor, until):
    """The second takes over what the first could not send; it is stored once."""
    between.fault = "close"
    first = visit(visitor, site)
    track(first, 12, range(5))
    second = visit(visitor, site)
    track(second, 12, range(5, 10))
    assert (waiting(first), waiting(second)) == (5, 10)
    between.fault = ""
    arrives(site, until, 12, range(10))
    for page in (first, second):
        page.wait_for_function("tracker.waiting === 0", timeout=20_000)
    assert second.evaluate("localStorage.length") == 0


def test_what_others_put_where_events_are_kept_is_not_sent(site, between, visitor, until):
    between.fault = "close"
    page = visit(visitor, site)
    track(page, 16, [1])
    page.evaluate(
        "for (const [at, text] of ['{', 'null', '{}', '1}]'].entries())"
        " localStorage.setItem(Object.keys(localStorage)[0].slice(0, -1) + 'x' + at, text)"
    )
    page.reload()
    page.wait_for_function("window.tracker")
    assert waiting(page) == 1
    between.fault = ""
    arrives(site, until, 16, [1])


def test_a_page_without_storage_tracks_too(site, visitor, until):
    page = visitor.new_page()
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new Error('denied'); }})"
    )
    page.goto(site.pages.origin)
    page.wait_for_function("window.tracker")
    track(page, 13, range(3))
    arrives(site, until, 13, range(3))


def test_events_wait_for_a_gateway_that_is_down(pages, shop, start, visitor, until):
    with (shop.root / "feilun.toml").open("a") as settings:
        settings.write(f'origins = ["{pages.origin}"]\n')
    before = pages.html
    pages.html = PAGE.format(gateway=shop.port, to=shop.port)
    shop.pages = pages
    try:
        with start(shop):
            page = visit(visitor, shop)
            track(page, 14, [1])
            arrives(shop, until, 14, [1])
        track(page, 14, [2, 3])
        page.wait_for_timeout(2_500)  # long enough for an attempt that fails
        assert waiting(page) == 2
        with start(shop):
            arrives(shop, until, 14, [1, 2, 3])
            page.wait_for_function("tracker.waiting === 0")
    finally:
        pages.html = before


def test_the_generated_client_calls_and_tracks(site, visitor, until, tmp_path):
    """On a page of the gateway's own origin, as behind a proxy that serves both."""
    site.run("client", "javascript", "--out", tmp_path)
    source = (tmp_path / "shop_client.js").read_text("utf-8")
    page = visitor.new_page()
    origin = f"http://127.0.0.1:{site.port}"
    page.route(f"{origin}/shop", lambda route: route.fulfill(
        content_type="text/html", body='<script type="module">'
        'import * as api from "/client.js"; window.api = api;</script>'))  # fmt: skip
    page.route(f"{origin}/client.js", lambda route: route.fulfill(
        content_type="text/javascript", body=source))  # fmt: skip
    page.goto(f"{origin}/shop")
    page.wait_for_function("window.api")
    page.evaluate("window.client = new api.Client()")
    for wrong, said in (
        ("'click', {user_id: 15}", "it lacks item_id"),
        ("'click', {user_id: 15, item_id: undefined}", "it lacks item_id"),
        ("'click', {user_id: 15, item_id: 1, itm: 2}", "it has no itm"),
        ("'clik', {user_id: 15}", "there is no such event"),
        ("'toString', {}", "there is no such event"),
        ("'click'", "its fields are no object"),
        ("'click', {user_id: 15n, item_id: 1}", "BigInt"),
    ):
        assert page.evaluate(f"client.track({wrong})") is None
        assert said in visitor.said[-1]
    assert page.evaluate("client.tracker.waiting") == 0
    page.evaluate("client.track('click', {user_id: 15, item_id: 77})")
    assert page.evaluate("client.tracker.flush()") == 0
    arrives(site, until, 15, [77])
    reply = page.evaluate("client.recommend({user_id: 15, k: 1})")
    assert len(reply["result"]) == 1 and reply["model"] == "ranker"
    both = page.evaluate("client.recommend_batch([{user_id: 15, k: 1}, {usr: 1}], {minOffset: 0})")
    assert [each["status"] for each in both] == [200, 400]
    assert both[0]["reply"]["result"] == reply["result"]
    assert both[1]["error"]["code"] == "bad_input"
    profile = page.evaluate("client.user_profile({user_id: 15}, {minOffset: 0})")
    assert profile["features"]["clicks"] == 1
    error = page.evaluate(
        "client.recommend({user_id: 'x'}).catch(e => ({...e, message: e.message}))"
    )
    assert (error["status"], error["code"], error["retryAfter"]) == (400, "bad_input", None)
    assert error["requestId"] and "user_id" in error["message"]
    late = page.evaluate("client.trends({}, {minOffset: 1e9}).catch(e => e.retryAfter)")
    assert late == 1
    nobody = page.evaluate("client.recommend({user_id: 15}, {personalised: false})")
    assert "not_personalised" in nobody["degraded"]
    again = "client.recommend({user_id: 15}, {requestId: 'page-1'})"
    assert page.evaluate(again) == page.evaluate(again)
    soon = page.evaluate("client.trends({}, {minOffset: 1e9, timeout: 200}).catch(e => e.status)")
    assert soon == 504
