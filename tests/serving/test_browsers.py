"""What a browser may do: the link that lets one in, and pages of this server and of others."""

from dataclasses import replace

import pytest

from feilun.serving.worker import make_app


def bearer(key):
    return [(b"authorization", b"Bearer " + key.encode())]


def order(id):
    return {
        "event": "order",
        "id": id,
        "fields": {"user_id": 1, "item_id": 2, "place": 3},
    }


class TestTheLink:
    def login(self, shop, query=None, **options):
        query = f"token={shop.token}".encode() if query is None else query
        return shop.client.get("/docs", query, **options)

    def cookie(self, reply):
        return reply.headers["set-cookie"].partition(";")[0].encode()

    def test_it_puts_another_secret_into_a_cookie_that_scripts_cannot_read(self, shop):
        shop.add_team("growth", "recommend")
        reply = shop.run(self.login(shop, host="127.0.0.1:8600"))
        assert (reply.status, reply.headers["location"]) == (303, "/docs")
        assert reply.headers["referrer-policy"] == "no-referrer"
        words = reply.headers["set-cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} == set(words[1:])
        assert words[0].startswith("feilun_8600=")
        assert shop.token not in reply.headers["set-cookie"]
        cookie, host = words[0].encode(), "127.0.0.1:8600"
        page, status = shop.run(
            shop.client.get("/docs", host=host, headers=[(b"cookie", cookie)]),
            shop.client.get("/status", host=host, headers=[(b"cookie", b"a=b; " + cookie)]),
        )
        assert (page.status, status.status) == (200, 200)

    @pytest.mark.parametrize(
        "query", [b"token=", b"token=flt_", b"token=x&token=y", b"token=%ff", b"token=a" * 3_000]
    )
    def test_another_token_is_refused(self, shop, query):
        reply = shop.run(self.login(shop, query))
        assert reply.status == 401
        assert "set-cookie" not in reply.headers

    def test_the_token_is_not_a_cookie_and_another_ports_cookie_is_not_this_ones(self, shop):
        shop.add_team("growth", "recommend")
        cookie = self.cookie(shop.run(self.login(shop, host="localhost:1")))
        tries = [
            (b"feilun_1=" + shop.token.encode(), "localhost:1"),
            (cookie, "localhost:2"),
            (cookie[:-1] + b"!", "localhost:1"),
            (b"feilun_1=", "localhost:1"),
        ]
        replies = shop.run(
            *(shop.client.get("/status", host=host, headers=[(b"cookie", c)]) for c, host in tries)
        )
        assert {reply.status for reply in replies} == {401}

    def test_pages_of_other_servers_cannot_use_it(self, shop):
        shop.add_team("growth", "recommend")
        cookie = self.cookie(shop.run(self.login(shop)))
        replies = shop.run(
            *(
                shop.client.get("/status", headers=[(b"cookie", cookie), (b"sec-fetch-site", site)])
                for site in (b"same-origin", b"none", b"same-site", b"cross-site")
            )
        )
        assert [reply.status for reply in replies] == [200, 200, 403, 403]

    def test_it_leads_in_on_its_own_path_and_by_get_alone(self, shop):
        query = f"token={shop.token}".encode()
        status, post = shop.run(
            shop.client.get("/status", query), shop.client.ask("POST", "/docs", query)
        )
        assert (status.status, post.status) == (400, 400)


class TestOrigin:
    """DNS rebinding: a name that an attacker points here comes as the host, whatever key comes."""

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "localhost.evil.example",
            "localhost@evil.example",
            "127.0.0.1.evil.example:80",
            "127.0.0.2",
            "0.0.0.0",
            "[::ffff:127.0.0.1]",
            "localhost:80:80",
            "",
            None,
        ],
    )
    def test_it_is_refused_even_with_the_token(self, shop, host):
        reply, link, open_ = shop.run(
            shop.client.get("/status", headers=bearer(shop.token), host=host),
            shop.client.get("/docs", f"token={shop.token}".encode(), host=host),
            shop.client.get("/health", host=host),
        )
        assert (reply.status, link.status, open_.status) == (403, 403, 403)
        assert "set-cookie" not in link.headers

    def test_names_that_proxies_add_are_not_believed(self, shop):
        shop.add_team("growth", "recommend")
        named = [(b"x-forwarded-host", b"localhost"), (b"x-forwarded-for", b"127.0.0.1"),
                 (b"x-original-url", b"/health"), (b"x-http-method-override", b"GET")]  # fmt: skip
        evil, nobody = shop.run(
            shop.client.get("/status", host="evil.example", headers=named),
            shop.client.get("/status", headers=named),
        )
        assert (evil.status, nobody.status) == (403, 401)


class TestPages:
    """A page holds no secret: that its origin is welcome on a route stands for a key there."""

    SHOP = "https://shop.example"

    @pytest.fixture
    def shop(self, shop):
        parts = replace(shop.parts, origins=frozenset({self.SHOP}))
        shop.app = shop.client.app = make_app(parts)
        return shop

    def page(self, origin=SHOP):
        return [(b"origin", origin.encode()), (b"sec-fetch-site", b"cross-site")]

    def test_a_welcome_one_sends_events_without_a_key_and_may_do_nothing_else(self, shop):
        shop.add_team("growth", "events", "recommend")
        sent, ahead, tracker, read, status = shop.run(
            shop.client.post("/api/events", order("p-1"), headers=self.page()),
            shop.client.ask("OPTIONS", "/api/events", headers=self.page()),
            shop.client.get("/feilun.js", headers=self.page()),
            shop.client.get("/api/recommend", {"user_id": 1}, headers=self.page()),
            shop.client.get("/status", headers=self.page()),
        )
        assert (sent.status, ahead.status, tracker.status) == (200, 200, 200)
        assert (read.status, status.status) == (403, 403)
        assert [record.source for _, record in shop.log.read(0)] == ["page"]
        assert shop.teams.usage() == []

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "", SHOP + ":8443"])
    def test_another_one_is_refused(self, shop, origin):
        shop.add_team("growth", "events")
        page = self.page(origin)
        cross, plain = shop.run(
            shop.client.post("/api/events", order("p-1"), headers=page),
            shop.client.post("/api/events", order("p-1"), headers=page[:1]),
        )
        assert (cross.status, plain.status) == (403, 401)
        assert shop.log.end() == 0

    def test_a_key_that_is_sent_counts_though_the_origin_is_welcome(self, shop):
        key = shop.add_team("growth", "recommend")
        wrong, other = shop.run(
            shop.client.post("/api/events", order("p-1"), headers=[*self.page(), *bearer("x")]),
            shop.client.post("/api/events", order("p-1"), headers=[*self.page(), *bearer(key)]),
        )
        assert (wrong.status, other.status) == (401, 404)
