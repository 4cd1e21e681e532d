"""Keys at a running platform of two workers: who is let in, how soon that changes, what is kept."""

import http.client
import json
import re
import sqlite3
import threading
import time
from contextlib import closing

import pytest

from feilun.events.client import Client
from feilun.events.local_token import local_token

pytestmark = pytest.mark.xdist_group("keys")

SETTINGS = ("workers = 2",)
SECONDS = 1.0
"""Within how long every worker knows what was changed."""
PATH = "/api/user_profile?user_id=1"


def add(shop, name, can="recommend,user_profile,events", quota="100000/s"):
    """Add a team; return its key."""
    return shop.json("team", "add", name, "--can", can, "--quota", quota)["key"]


def token_of(shop):
    return (shop.root / ".feilun/run/token").read_text().strip()


def known(shop, key, status=200):
    """Wait until all workers answer a key with ``status``: each asked by many connections."""
    deadline = time.monotonic() + SECONDS
    while {shop.status(PATH, key) for _ in range(20)} != {status}:
        assert time.monotonic() < deadline + 1
    return key


def workers(shop):
    """Return what each worker counts of teams: ask until both have answered."""
    found = {}
    for _ in range(200):
        text = shop.ask("/metrics", key=token_of(shop))[2].decode()
        (worker,) = set(re.findall(r'worker="([^"]+)"', text))
        found[worker] = text
        if len(found) == 2:
            return found
    raise AssertionError("One worker alone answers.")


class Load:
    """Threads that ask as fast as they can, each time over a new connection."""

    def __init__(self, shop, key, threads=4):
        self.shop, self.key, self.done = shop, key, threading.Event()
        self.answers = []  # (when it was asked, when it was answered, status)
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]

    def run(self):
        while not self.done.is_set():
            asked = time.monotonic()
            status = self.shop.status(PATH, self.key)
            self.answers.append((asked, time.monotonic(), status))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        for thread in self.threads:
            thread.join()


def last_of(load, status):
    return max((asked for asked, _, found in load.answers if found == status), default=0.0)


@pytest.fixture(scope="module")
def keyed(running):
    """A platform that asks for keys; each test adds a team of its own."""
    add(running, "owner")
    known(running, None, 401)
    return running


def test_no_key_is_needed_until_there_is_a_team_and_one_always_is_from_then_on(
    tmp_path, shop_maker, start
):
    shop = shop_maker(tmp_path, *SETTINGS)
    with start(shop):
        assert shop.status(PATH) == shop.status("/status") == 200
        with Load(shop, None) as load:
            add(shop, "first", "recommend")
            added = time.monotonic()
            time.sleep(SECONDS * 2)
        assert last_of(load, 200) < added + SECONDS
        assert {found for _, _, found in load.answers} == {200, 401}
        shop.run("team", "revoke", "first")
        time.sleep(SECONDS)
        assert {shop.status(PATH) for _ in range(20)} == {401}


def test_a_key_opens_what_it_was_given_for(keyed):
    key = known(keyed, add(keyed, "growth", "user_profile"))
    assert keyed.status("/api/recommend?user_id=1", key) == 404
    assert keyed.status("/status", key) == 404
    assert keyed.status(PATH) == 401
    assert keyed.status("/health") == keyed.status("/ready") == 200


def test_the_commands_find_the_token_themselves(keyed):
    known(keyed, add(keyed, "tools", "user_profile"))
    assert keyed.json("send", "click", "user_id=1", "item_id=7")["events"]
    assert keyed.json("status")["platform"]["keys"] == "required"


def test_the_python_client_finds_the_token_of_its_project(keyed, monkeypatch):
    url = f"http://127.0.0.1:{keyed.port}"
    inner = keyed.root / "deep" / "er"
    inner.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(inner)
    monkeypatch.delenv("FEILUN_KEY", raising=False)
    with Client(url, source="web") as client:
        (answer,) = client.send([{"event": "click", "fields": {"user_id": 8, "item_id": 1}}])
    assert answer.status == "accepted"
    assert local_token("127.0.0.1", keyed.port + 1, inner) == ""
    assert local_token("shop.example", keyed.port, inner) == ""


def test_the_link_that_up_prints_lets_a_browser_in(keyed):
    said = keyed.up.said()
    (link,) = re.findall(r"http://127\.0\.0\.1:\d+(/docs\?token=\S+)", said)
    status, headers, _ = keyed.ask(link)
    assert (status, headers["location"]) == (303, "/docs")
    cookie = headers["set-cookie"].partition(";")[0]
    status, _, page = keyed.ask("/docs", Cookie=cookie)
    assert status == 200
    assert b"/api/recommend" in page


def test_the_token_is_its_owners_alone(keyed):
    assert (keyed.root / ".feilun/run/token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("command", ["revoke", "rotate", "change", "expire"])
def test_what_is_taken_from_a_key_is_taken_within_a_second_while_it_is_used(keyed, command):
    name = f"taken-{command}"
    key = known(keyed, add(keyed, name, "user_profile"))
    words = {
        "revoke": ["revoke", name],
        "rotate": ["rotate", name, "--now"],
        "change": ["change", name, "--can", "recommend"],
        "expire": ["rotate", name, "--grace", "1s"],
    }[command]
    after = 404 if command == "change" else 401
    with Load(keyed, key) as load:
        time.sleep(0.3)
        keyed.run("team", *words)
        done = time.monotonic()
        time.sleep(SECONDS + (2 if command == "expire" else 1))
    bound = SECONDS + (1 if command == "expire" else 0)
    assert {status for _, _, status in load.answers} == {200, after}
    assert last_of(load, 200) < done + bound
    answered = min(when for _, when, status in load.answers if status == after)
    assert last_of(load, after) > answered


def begin_slowly(shop, key, path, body):
    """Send a request but for the end of its body; return how to send that, which gives a status."""
    connection = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=20)
    connection.putrequest("POST", path)
    for name, value in (("Authorization", f"Bearer {key}"), ("Content-Type", "application/json")):
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:5])

    def end():
        with closing(connection):
            connection.send(body[5:])
            return connection.getresponse().status

    return end


def test_a_key_that_is_revoked_while_a_body_comes_takes_nothing_any_more(keyed):
    event = {"event": "click", "id": "late-1", "fields": {"user_id": 987, "item_id": 1}}
    event, batch = json.dumps(event).encode(), b'[{"user_id": 987}]'

    def begin(key):
        return (
            begin_slowly(keyed, key, "/api/events", event),
            begin_slowly(keyed, key, "/api/recommend/batch", batch),
        )

    key = known(keyed, add(keyed, "sluggish"))
    ends = begin(key)
    keyed.run("team", "revoke", "sluggish")
    known(keyed, key, 401)
    time.sleep(SECONDS)
    assert [end() for end in ends] == [401, 401]
    key = known(keyed, add(keyed, "sluggish"))
    ends = begin(key)
    time.sleep(0.5)
    assert [end() for end in ends] == [200, 200]  # being slow alone costs nothing
    ends = begin(key)
    keyed.run("team", "change", "sluggish", "--can", "user_profile")
    time.sleep(SECONDS)
    assert [end() for end in ends] == [404, 404]


def test_a_quota_holds_over_both_workers(keyed):
    rate = 40
    key = add(keyed, "slow", "user_profile", f"{rate}/s")
    known(keyed, token_of(keyed))
    deadline = time.monotonic() + 2
    while 401 in {keyed.status(PATH, key) for _ in range(20)}:
        assert time.monotonic() < deadline
    time.sleep(1.5)  # rested
    started = time.monotonic()
    with Load(keyed, key, threads=6) as load:
        time.sleep(4)
    took = max(when for _, when, _ in load.answers) - started
    passed = sum(status == 200 for _, _, status in load.answers)
    assert {status for _, _, status in load.answers} == {200, 429}
    assert rate * 4 <= passed <= rate * (took + 1) + 1
    counted = [
        int(float(number))
        for text in workers(keyed).values()
        for number in re.findall(r'feilun_usage_total\{[^}]*team="slow"[^}]*\} (\S+)', text)
    ]
    assert len(counted) == 2, "both workers have let some in"
    status, headers = 200, {}
    while status == 200:
        status, headers, _ = keyed.ask(PATH, key=key)
    assert headers["retry-after"] == "1"


def test_usage_and_uses_are_told(keyed):
    key = known(keyed, add(keyed, "metered"))
    for user in range(3):
        assert keyed.status(f"/api/recommend?user_id={user}", key) == 200

    def used():
        rows = keyed.json("team", "usage", "metered")["usage"]
        return {row["scope"]: row["requests"] for row in rows}

    deadline = time.monotonic() + 30
    while used().get("recommend") != 3 or used().get("user_profile", 0) < 20:
        assert time.monotonic() < deadline  # each worker stores what it counted, for itself
    assert "metered" in keyed.run("team", "usage").stdout
    uses = [e for e in keyed.json("audit", "--limit", 1000)["audit"] if e["action"] == "use"]
    assert {("metered", "/api/recommend"), ("metered", "/api/user_profile")} <= {
        (use["subject"], use["detail"]) for use in uses
    }


def test_the_audit_log_takes_no_change(keyed):
    with closing(sqlite3.connect(keyed.root / ".feilun/platform.db")) as database:
        for statement in ("DELETE FROM audit", "UPDATE audit SET at = 0"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                database.execute(statement)


def test_a_stolen_name_does_not_help(keyed):
    token = token_of(keyed)
    assert keyed.status("/status", token, Host="evil.example") == 403
    assert keyed.status("/status", token, **{"Sec-Fetch-Site": "cross-site"}) == 403


def test_a_body_is_not_waited_for_before_somebody_is_let_in(keyed):
    """A megabyte is announced and never sent: who waited for it would answer after 30 s."""
    with closing(http.client.HTTPConnection("127.0.0.1", keyed.port, timeout=10)) as connection:
        connection.putrequest("POST", "/api/events")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "1000000")
        connection.endheaders()
        assert connection.getresponse().status == 401


def test_no_secret_is_in_any_file_but_the_tokens_own(keyed):
    """Canaries: every secret that was ever shown, searched for in every file that is left."""
    keys = [add(keyed, "canary")]
    keys.append(keyed.json("team", "rotate", "canary")["key"])
    for key in keys:
        known(keyed, key)
        keyed.status("/api/recommend?user_id=wrong", key)
        keyed.status(f"/api/{key}", key)
        keyed.status(f"{PATH}&key={key}", key)
        keyed.call("/api/events", {"event": "nonsense"}, key)
        keyed.run("audit")
    time.sleep(3)  # usage is stored every two seconds
    token = token_of(keyed)
    secrets = {secret[-40:].encode() for secret in [*keys, token]}
    searched = 0
    for path in (keyed.root / ".feilun").rglob("*"):
        if path.is_file() and path.name != "token":
            raw = path.read_bytes()
            assert not [secret for secret in secrets if secret in raw], path
            searched += 1
    assert searched > 5
    assert any(b"canary" in p.read_bytes() for p in (keyed.root / ".feilun").glob("platform.db*"))


def test_a_token_that_others_may_read_is_not_used(shop, start):
    run = shop.root / ".feilun" / "run"
    run.mkdir(parents=True)
    (run / "token").write_text("flt_" + "a" * 43 + "\n")
    (run / "token").chmod(0o644)
    assert local_token("127.0.0.1", shop.port, shop.root) == ""
    assert "Others may read" in shop.run("serve", "gateway", code=2).stderr
    assert "Others may read" in shop.run("send", "click", "user_id=1", "item_id=1", code=2).stderr
    (run / "token").chmod(0o600)
    with start(shop):
        assert shop.status("/status", token_of(shop)) == 200
        assert local_token("localhost", shop.port, shop.root) == token_of(shop)


def test_where_quotas_cannot_be_shared_each_worker_lets_in_its_share_and_says_so(shop, start):
    with (shop.root / "feilun.toml").open("a") as file:
        file.write("workers = 2\n")
    (shop.root / ".feilun/run/quota/in-the-way").mkdir(parents=True)
    rate = 40
    key = add(shop, "slow", "user_profile", f"{rate}/s")
    with start(shop):
        started = time.monotonic()
        with Load(shop, key, threads=6) as load:
            time.sleep(3)
        took = max(when for _, when, _ in load.answers) - started
        passed = sum(status == 200 for _, _, status in load.answers)
        assert {status for _, _, status in load.answers} == {200, 429}
        assert rate <= passed <= rate * (took + 1) + 2
        problems = shop.json("status")["platform"]["problems"]
        assert any("1/2 of its quota" in problem for problem in problems)


def test_json_stays_json(keyed):
    for words in (["team", "list"], ["team", "usage"], ["audit"]):
        assert isinstance(json.loads(keyed.run(*words, "--json").stdout), dict)
