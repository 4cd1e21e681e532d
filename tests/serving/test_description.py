"""What the gateway says of itself: its routes, OpenAPI, /docs, /metrics, /ready and /status."""

import dataclasses
import re
from dataclasses import dataclass
from datetime import datetime
from html.parser import HTMLParser
from typing import Literal

import pytest

from feilun.definitions.specs import FieldSpec, ParameterSpec
from feilun.errors import ConfigError, StoreFull
from feilun.serving.description.api_version import operation_version
from feilun.serving.description.openapi import describe
from feilun.serving.metrics import Metrics
from feilun.serving.worker import make_app


@dataclass
class Branch:
    """A type that holds itself."""

    name: str
    parent: "Branch | None"
    branches: "list[Branch]"


@dataclass
class ErrorReply:
    """Called as one of the gateway's own."""

    why: str


ROUTES = {
    "/health": {"GET"},
    "/ready": {"GET"},
    "/metrics": {"GET"},
    "/status": {"GET"},
    "/openapi.json": {"GET"},
    "/docs": {"GET"},
    "/feilun.js": {"GET"},
    "/api/events": {"POST"},
    "/api/recommend": {"GET", "POST"},
    "/api/strict": {"GET", "POST"},
    "/api/inventory": {"GET", "POST"},
    "/api/broken": {"GET", "POST"},
    "/api/fussy": {"GET", "POST"},
    "/api/odd": {"GET", "POST"},
    "/api/user_profile": {"GET"},
    "/api/item_profile": {"GET"},
    "/api/user_item": {"GET"},
    "/api/trends": {"GET"},
}
ROUTES |= {f"{path}/batch": {"POST"} for path, methods in ROUTES.items() if len(methods) == 2}
"""Whoever may ask a capability may ask it many things at once."""


def test_these_routes_and_no_others_answer(shop):
    """A new route must be added here, by somebody who has thought of who may call it."""
    assert {path: set(route.methods) for path, route in shop.app.routes.items()} == ROUTES


def test_every_other_method_of_every_route_is_refused(shop):
    methods = {"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"}
    asked = [(path, method) for path, taken in ROUTES.items() for method in sorted(methods - taken)]
    replies = shop.run(*(shop.client.ask(method, path) for path, method in asked))
    assert {reply.status for reply in replies} == {405}


def test_every_route_is_behind_the_wall(shop):
    replies = shop.run(*(shop.client.get(path, host="evil.example") for path in ROUTES))
    assert {reply.status for reply in replies} == {403}


def test_every_post_takes_json_alone(shop):
    posts = [path for path, methods in ROUTES.items() if "POST" in methods]
    plain = [(b"content-type", b"text/plain")]
    replies = shop.run(*(shop.client.post(path, b"{}", headers=plain) for path in posts))
    assert {reply.status for reply in replies} == {415}


def test_two_things_at_one_path_are_refused_at_start(shop):
    view = shop.project.views["trends"]
    shop.project.views["recommend"] = type(view)("recommend", (), ())
    with pytest.raises(ConfigError, match="/api/recommend"):
        make_app(shop.parts)


@pytest.fixture
def description(shop):
    return shop.run(shop.client.get("/openapi.json")).json


class TestOpenApi:
    def test_every_route_is_described(self, description):
        described = {
            path: {method.upper() for method in item} for path, item in description["paths"].items()
        }
        assert described == ROUTES

    def test_its_parts_are_those_of_openapi_3_1(self, description):
        assert description["openapi"] == "3.1.0"
        assert set(description) == {"openapi", "info", "tags", "paths", "components"}
        assert {"title", "version"} <= set(description["info"])
        ids = []
        for path, item in description["paths"].items():
            assert path.startswith("/")
            for operation in item.values():
                ids.append(operation["operationId"])
                assert {"200"} <= set(operation["responses"])
                assert all("description" in reply for reply in operation["responses"].values())
                for parameter in operation.get("parameters", ()):
                    assert {"name", "in", "required", "schema"} <= set(parameter)
                    assert parameter["in"] in ("query", "header")
                if "requestBody" in operation:
                    assert "application/json" in operation["requestBody"]["content"]
        assert len(ids) == len(set(ids))

    def test_every_reference_leads_somewhere(self, description):
        def references(part):
            if isinstance(part, dict):
                if "$ref" in part:
                    yield part["$ref"]
                for value in part.values():
                    yield from references(value)
            elif isinstance(part, list):
                for value in part:
                    yield from references(value)

        schemas = description["components"]["schemas"]
        found = set(references(description))
        assert found
        assert all(ref.removeprefix("#/components/schemas/") in schemas for ref in found)

    def test_the_examples_are_what_the_gateway_takes_and_gives(self, shop, description):
        for path in ("/api/recommend", "/api/inventory"):
            post = description["paths"][path]["post"]
            body = post["requestBody"]["content"]["application/json"]["example"]
            reply = shop.run(make_app_again(shop).post(path, body))
            assert reply.status == 200, reply.body
            example = post["responses"]["200"]["content"]["application/json"]["example"]
            assert set(example) == set(reply.json)
        event = description["paths"]["/api/events"]["post"]["requestBody"]["content"]
        reply = shop.run(
            make_app_again(shop).post("/api/events", event["application/json"]["example"])
        )
        assert [answer["status"] for answer in reply.json["events"]] == ["accepted"], reply.body

    def test_parameters_have_their_types_and_defaults(self, description):
        parameters = description["paths"]["/api/recommend"]["get"]["parameters"]
        by_name = {p["name"]: p for p in parameters}
        assert by_name["user_id"]["required"] and not by_name["k"]["required"]
        assert by_name["k"]["schema"] == {"type": "integer", "default": 10}
        query = {"user_id", "k", "min_offset", "personalised"}
        assert set(by_name) == query | {"X-Request-Id", "Idempotency-Key", "Request-Timeout"}

    def test_only_where_the_request_says_the_time_may_it(self, shop):
        for clock, options in (("wall", {"min_offset"}), ("request", {"min_offset", "as_of"})):
            paths = describe(shop.project, "1", clock)["paths"]
            (view,) = paths["/api/trends"].values()
            assert queries(view) == options
            for path in ("/api/recommend", "/api/recommend/batch"):
                assert queries(paths[path]["post"]) == options | {"personalised"}

    def test_the_headers_that_are_described_are_sent_and_answered(self, shop, description):
        app = make_app_again(shop)

        def ask(header):
            return app.get("/api/recommend", {"user_id": 1}, headers=[header])

        for path in ("/api/recommend", "/api/user_profile", "/api/events"):
            (operation, *_) = description["paths"][path].values()
            names = [p["name"] for p in operation["parameters"] if p["in"] == "header"]
            kept = path == "/api/recommend"
            assert names == ["X-Request-Id", *["Idempotency-Key"] * kept, "Request-Timeout"]
            told = operation["responses"]["200"]["headers"]
            assert list(told) == ["X-Request-Id", *["Idempotent-Replayed"] * kept]

        async def asked():
            sent = (b"idempotency-key", b"one"), (b"request-timeout", b"0.000001")
            return [await ask(each) for each in (sent[0], *sent)]

        first, again, late = shop.run(asked())
        assert [first.headers["x-request-id"], again.headers["x-request-id"]] == ["one", "one"]
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        assert late.status == 504

    def test_headers_that_all_share_are_no_part_of_a_version(self, description):
        for item in description["paths"].values():
            for operation in item.values():
                if "x-feilun-version" in operation:
                    bare = {**operation, "parameters": []}
                    bare["parameters"] = [p for p in operation["parameters"] if p["in"] == "query"]
                    components = description["components"]["schemas"]
                    assert operation_version(bare, components) == operation["x-feilun-version"]


def queries(operation):
    return {p["name"] for p in operation["parameters"] if p["in"] == "query"}


def make_app_again(shop):
    """Start afresh: a gateway is started once."""
    shop.app = make_app(shop.parts)
    shop.client.app = shop.app
    return shop.client


def media_of(description):
    """Every place with a schema and an example: (where, schema, example)."""
    for path, item in description["paths"].items():
        for method, operation in item.items():
            where = f"{method} {path}"
            for parameter in operation.get("parameters", ()):
                if "example" in parameter:
                    yield f"{where} {parameter['name']}", parameter["schema"], parameter["example"]
            if "requestBody" in operation:
                for media in operation["requestBody"]["content"].values():
                    yield f"{where} body", media["schema"], media["example"]
            for status, reply in operation["responses"].items():
                for media in reply["content"].values():
                    yield f"{where} {status}", media["schema"], media["example"]


def validate(value, schema, description):
    jsonschema = pytest.importorskip("jsonschema")
    whole = {**schema, "components": description["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


class TestExamples:
    def test_every_request_and_reply_has_one_that_fits_its_schema(self, description):
        found = list(media_of(description))
        assert len(found) > 100
        for where, schema, example in found:
            try:
                validate(example, schema, description)
            except Exception as error:
                raise AssertionError(where) from error

    def test_a_reply_of_another_type_does_not_fit(self, description):
        """That the check above can fail."""
        reply = description["paths"]["/api/recommend"]["get"]["responses"]["200"]
        media = reply["content"]["application/json"]
        with pytest.raises(Exception, match="is not of type 'integer'"):
            validate({**media["example"], "result": ["x"]}, media["schema"], description)

    def test_what_the_gateway_answers_fits_too(self, shop, description):
        shop.train()
        make_app_again(shop)
        asked = [
            ("get", "/api/recommend", {"user_id": 1}, 200),
            ("get", "/api/recommend", {"usr_id": 1}, 400),
            ("get", "/api/broken", {"user_id": 1}, 500),
            ("get", "/api/user_profile", {"user_id": 1}, 200),
            ("get", "/api/user_profile", {"user_id": 999}, 200),
            ("get", "/api/trends", {"min_offset": 10**9}, 503),
            ("get", "/health", {}, 200),
            ("get", "/ready", {}, 200),
            ("get", "/status", {}, 200),
        ]
        replies = shop.run(*(shop.client.get(path, query) for _, path, query, _ in asked))
        for (method, path, _, status), reply in zip(asked, replies, strict=True):
            assert reply.status == status
            known = description["paths"][path][method]["responses"][str(status)]
            validate(reply.json, known["content"]["application/json"]["schema"], description)
            assert ("Retry-After" in known.get("headers", {})) == ("retry-after" in reply.headers)

    def test_replies_of_every_python_type_have_one(self, shop):
        kinds = [int | None, dict[str, float], tuple[int, str], list[Branch], Branch, datetime,
                 Literal["a", "b"], object, ErrorReply, set[str]]  # fmt: skip
        for number, kind in enumerate(kinds):
            spec = shop.project.capabilities["recommend"]
            name = f"r{number}"
            shop.project.capabilities[name] = dataclasses.replace(
                spec, name=name, path=f"/api/{name}", returns=kind
            )
        description = describe(shop.project, "1")
        for where, schema, example in media_of(description):
            if "/api/r" in where:
                validate(example, schema, description)
        ours = description["components"]["schemas"]["ErrorReply"]
        assert set(ours["properties"]) == {"error"}


class TestVersions:
    def changed(self, shop, **changes):
        spec = shop.project.capabilities["recommend"]
        shop.project.capabilities["recommend"] = dataclasses.replace(spec, **changes)
        return describe(shop.project, "1")

    def of(self, description, path="/api/recommend", method="get"):
        return description["paths"][path][method]["x-feilun-version"]

    def test_texts_change_none(self, shop):
        before = describe(shop.project, "1")
        after = self.changed(shop, description="Something else.", owner="others")
        assert self.of(before) == self.of(after)
        assert before["info"]["version"] == after["info"]["version"]

    def test_types_and_names_do(self, shop):
        before = describe(shop.project, "1")
        for changes in (
            {"returns": list[str]},
            {"parameters": (ParameterSpec("user", int, True, None),)},
            {"parameters": (ParameterSpec("user_id", int, False, 1),)},
        ):
            after = self.changed(shop, **changes)
            assert self.of(before) != self.of(after)
            assert before["info"]["version"] != after["info"]["version"]
            assert self.of(before, "/api/strict") == self.of(after, "/api/strict")

    def test_a_field_that_is_called_as_a_text_counts(self, shop):
        before = describe(shop.project, "1")
        event = shop.project.events["order"]
        fields = (*event.fields, FieldSpec("description", "str", optional=True))
        grown = {"order": dataclasses.replace(event, fields=fields)}
        after = describe(dataclasses.replace(shop.project, events=grown), "1")
        assert self.of(before, "/api/events", "post") != self.of(after, "/api/events", "post")


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [v for k, v in attrs if k in ("href", "src", "srcset", "action", "style")]


class TestDocs:
    def test_the_page_opens_offline(self, shop):
        reply = shop.run(shop.client.get("/docs", host="localhost:8600"))
        text = reply.body.decode()
        page = Page(text)
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert page.links == ["/openapi.json", "/status"]
        assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "form"}
        urls = set(re.findall(r"https?://[^\s'\"<&]+", text))
        assert urls and all(url.startswith("http://localhost:8600/") for url in urls)
        assert "url(" not in text and "@import" not in text

    def test_a_browser_may_only_show_it(self, shop):
        reply = shop.run(shop.client.get("/docs"))
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy and "script-src" not in policy

    def test_the_style_is_the_one_whose_hash_is_allowed(self, shop):
        import base64
        import hashlib

        reply = shop.run(shop.client.get("/docs"))
        style = re.search(r"<style>(.*?)</style>", reply.body.decode(), re.S)[1]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert digest in reply.headers["content-security-policy"]

    def test_texts_of_the_definitions_are_inert(self, shop):
        text = shop.run(shop.client.get("/docs")).body.decode()
        assert "<b>everybody</b>" not in text
        assert "&lt;b&gt;everybody&lt;/b&gt;" in text

    def test_it_shows_each_route_with_a_curl(self, shop):
        text = shop.run(shop.client.get("/docs")).body.decode()
        for path in ROUTES:
            assert f"<code>{path}</code>" in text
        assert text.count("curl ") == sum(len(methods) for methods in ROUTES.values())
        assert "user_id=1&amp;k=10" in text

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ("zh-CN,zh;q=0.9,en;q=0.8", "试一试"),
            ("zh-TW", "试一试"),
            ("en-GB,en;q=0.9,zh;q=0.5", "Try it"),
            ("de", "Try it"),
            ("", "Try it"),
            pytest.param("zh;q=" + "9" * 9_000, "试一试", id="long"),
        ],
    )
    def test_its_own_words_are_in_the_readers_language(self, shop, asked, said):
        reply = shop.run(shop.client.get("/docs", headers=[(b"accept-language", asked.encode())]))
        text = reply.body.decode()
        assert f"<h3>{said}</h3>" in text
        assert f'lang="{"zh-CN" if said == "试一试" else "en"}"' in text
        assert "&lt;b&gt;everybody&lt;/b&gt;" in text  # what the definitions say stays as it is
        assert reply.headers["vary"] == "accept-language"

    def test_nothing_of_the_page_is_left_in_english(self, shop):
        """Whatever the page says of itself has a translation, new routes and errors too."""
        chinese = [(b"accept-language", b"zh")]
        english = shop.run(shop.client.get("/docs")).body.decode()
        text = shop.run(shop.client.get("/docs", headers=chinese)).body.decode()
        own = re.compile(r"<h[23]>([^<]+)<|<th>([^<]+)<|<td><code>\d+</code></td><td>([^<]+)<")
        found = {word for words in own.findall(english) for word in words if word}
        assert len(found) > 15
        assert not [word for word in found if f">{word}<" in text]

    def test_what_has_no_docstring_says_what_it_reads(self, shop):
        project = shop.project
        views = {n: dataclasses.replace(v, description="") for n, v in project.views.items()}
        asked = {
            n: dataclasses.replace(c, description="", owner="growth")
            for n, c in project.capabilities.items()
        }
        bare = dataclasses.replace(project, views=views, capabilities=asked)
        paths = describe(bare, "1")["paths"]
        view = paths["/api/user_profile"]["get"]
        assert view["summary"] == "Features of user_id"
        feature = project.views["user_profile"].features[0]
        assert f"`{feature.name}`: `{feature.formula}`" in view["description"]
        assert feature.fold.event in feature.formula
        capability = paths["/api/recommend"]["get"]
        assert capability["summary"].startswith("Scored by ")
        candidates = project.capabilities["recommend"].candidates
        assert candidates[0].address in capability["description"]
        assert "Owner: growth." in capability["description"]


SAMPLE = re.compile(r'[a-z_]+\{([a-z_]+="([^"\\]|\\.)*",?)*\} (\+Inf|-?[0-9.e+-]+)')


class TestMetrics:
    def test_every_line_is_of_the_format(self, shop):
        shop.train()
        *_, metrics = shop.run(
            shop.client.get("/api/recommend", {"user_id": 1}),
            shop.client.get("/api/recommend"),
            shop.client.get("/nope"),
            shop.client.get("/metrics"),
        )
        text = metrics.body.decode()
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert text.endswith("\n")
        for line in text.splitlines():
            assert line.startswith(("# HELP ", "# TYPE ")) or SAMPLE.fullmatch(line), line
        for line in (
            'feilun_requests_total{worker="w1",route="/api/recommend",status="200"} 1',
            'feilun_requests_total{worker="w1",route="/api/recommend",status="400"} 1',
            'feilun_requests_total{worker="w1",route="unmatched",status="404"} 1',
            'feilun_predictions_total{worker="w1",capability="recommend",model="ranker",'
            'version="1"} 1',
            'feilun_folded_offset{worker="w1"} 30',
            'feilun_log_end{worker="w1"} 1',
            'feilun_request_seconds_count{worker="w1",route="/api/recommend"} 2',
        ):
            assert line in text

    def test_a_histogram_counts_up_to_all(self):
        metrics = Metrics({"t": "Times."}, "w")
        for seconds in (0.0001, 0.001, 0.0015, 0.3, 99.0):
            metrics.observe("t", seconds)
        lines = metrics.expose().splitlines()
        counts = [int(line.split()[-1]) for line in lines if "_bucket" in line]
        assert counts == [2, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5]
        assert 't_count{worker="w"} 5' in lines
        assert sum(line.startswith("t_sum") for line in lines) == 1

    def test_labels_cannot_break_out(self):
        metrics = Metrics({"t": "Times."}, "w")
        metrics.add("t", name='a"} 1\nevil 5\\')
        assert metrics.expose().splitlines()[-1] == 't{worker="w",name="a\\"} 1\\nevil 5\\\\"} 1'


class TestHealth:
    def test_a_model_that_was_never_trained_keeps_no_events_away(self, shop):
        """Or there would be none to train it on."""
        health, ready, status = shop.run(*map(shop.client.get, ("/health", "/ready", "/status")))
        assert (health.status, health.json) == (200, {"status": "alive"})
        assert (ready.status, ready.json) == (200, {"status": "ready", "problems": []})
        assert status.json["problems"] == ["/api/strict has no version of ranker and no fallback."]

    def test_a_version_that_is_refused_keeps_nothing_else_away(self, shop):
        """It may be an endpoint that is down: views, events and other models are no worse off."""
        shop.release("ranker", 1, "0" * 64)
        get = shop.client.get
        ready, status, strict, other = shop.run(
            get("/ready"), get("/status"), get("/api/strict", {"user_id": 1}), get("/api/trends")
        )
        assert (ready.status, ready.json["status"]) == (200, "degraded")
        version, capability = ready.json["problems"]
        assert "Version 1 of ranker cannot be loaded" in version
        assert "/api/strict has no fallback" in capability
        assert status.json["problems"] == ready.json["problems"]
        assert (strict.status, other.status) == (503, 200)

    @pytest.mark.parametrize(
        ("stage", "percent", "all_answered"),
        [("shadow", 0, False), ("canary", 90, False), ("canary", 100, True), ("full", 100, True)],
    )
    def test_without_a_champion_nothing_is_wrong_once_all_get_the_challenger(
        self, shop, stage, percent, all_answered
    ):
        shop.roll_out(stage, percent, digest=shop.bundle())
        status, *replies = shop.run(
            shop.client.get("/status"),
            *(shop.client.get("/api/strict", {"user_id": user}) for user in range(100)),
        )
        assert (status.json["problems"] == []) == all_answered
        assert ({reply.status for reply in replies} == {200}) == all_answered

    def test_a_full_log_is_not_ready_until_it_takes_records_again(self, shop, monkeypatch):
        shop.train()
        shop.log.quota = 0
        get = shop.client.get

        async def emptied():
            shop.log.quota = None
            return await get("/api/recommend", {"user_id": 1})

        first, full, refused, view, again, ready = shop.run(
            get("/ready"), get("/api/recommend", {"user_id": 1}), get("/ready"),
            get("/api/trends"), emptied(), get("/ready"),
        )  # fmt: skip
        assert [r.status for r in (first, full, refused, view, again, ready)] == [
            200, 503, 503, 200, 200, 200,
        ]  # fmt: skip
        assert "takes no records" in refused.json["problems"][0]

    def test_a_store_that_cannot_be_read_is_not_ready(self, shop, monkeypatch):
        shop.train()

        def fail():
            raise StoreFull("The store is gone.")

        monkeypatch.setattr(shop.store, "snapshot", fail)
        ready, read = shop.run(shop.client.get("/ready"), shop.client.get("/api/trends"))
        assert ready.status == read.status == 503

    def test_status_says_where_everything_stands(self, shop):
        release = shop.train()
        turn = shop.turns.open("ranker", "10 outcomes", 30, shop.clock.now())
        shop.turns.note_examined("ranker", 30)
        status = shop.run(shop.client.get("/status")).json
        assert (status["project"], status["worker"], status["clock"]) == ("shop", "w1", "wall")
        assert (status["folded_offset"], status["log_end"], status["lag"]) == (30, 0, 0)
        assert status["models"]["ranker"] == {
            "version": 1,
            "sequence": release.sequence,
            "bundle": release.bundle,
            "since_offset": 0,
            "refused": None,
            "rollout": None,
            "rollout_refused": None,
        }
        assert status["models"]["demand"]["version"] is None
        loop = status["flywheels"]["ranker"]
        assert (loop["examined_offset"], loop["turns"]) == (30, 1)
        assert loop["running_turn"]["id"] == loop["last"]["id"] == turn.id
