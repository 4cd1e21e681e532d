"""Teams as people make them with commands, and what may be reached from where."""

import getpass
import json

import pytest

from feilun.clock import DAY, HOUR, to_iso

PATH = "/api/user_profile?user_id=1"


def add(shop, name, can="recommend,user_profile,events", *more, quota="1000/s"):
    """Add a team; return its key."""
    return shop.json("team", "add", name, "--can", can, "--quota", quota, *more)["key"]


class TestCommands:
    def test_a_key_is_shown_once(self, shop):
        said = shop.run("team", "add", "growth", "--can", "recommend", "--quota", "200/s").stdout
        (key,) = [word for word in said.split() if word.startswith("flk_")]
        assert "/api/recommend" in said
        assert "200" in said
        assert "first team" in said
        assert "refuses every call without a key" in said
        assert f"'http://127.0.0.1:{shop.port}/api/recommend?user_id=1&k=10'" in said
        assert '"Authorization: Bearer $FEILUN_KEY"' in said
        secret = key.rpartition("_")[2]
        for command in (["team", "list"], ["audit"], ["team", "usage"]):
            shown = shop.run(*command).stdout + json.dumps(shop.json(*command))
            assert secret not in shown
        assert key[4:16] in shop.run("team", "list").stdout

    def test_the_second_team_is_not_called_the_first(self, shop):
        add(shop, "growth")
        said = shop.run("team", "add", "ads", "--can", "events", "--quota", "1/s").stdout
        assert "first team" not in said

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["Growth", "--can", "events", "--quota", "1/s"], "'Growth' cannot be the name"),
            (["feilun", "--can", "events", "--quota", "1/s"], "'feilun' cannot be the name"),
            (["gateway", "--can", "events", "--quota", "1/s"], "'gateway' cannot be the name"),
            (["a/b", "--can", "events", "--quota", "1/s"], "cannot be the name"),
            (["a" * 41, "--can", "events", "--quota", "1/s"], "cannot be the name"),
            (["growth", "--can", "recomend", "--quota", "1/s"], "Did you mean 'recommend'?"),
            (["growth", "--can", "admin", "--quota", "1/s"], "Known: recommend"),
            (["growth", "--can", " , ", "--quota", "1/s"], "--can names nothing"),
            (["growth", "--can", "events", "--quota", "200"], "Write it like 200/s"),
            (["growth", "--can", "events", "--quota", "0/s"], "0/s"),
            (["growth", "--can", "events", "--quota", "-1/s"], "-1/s"),
            (["growth", "--can", "events", "--quota", "nan/s"], "nan/s"),
            (["growth", "--can", "events", "--quota", "1/s", "--expires", "soon"], "--expires"),
            (["growth", "--can", "events"], "--quota"),
        ],
    )
    def test_what_cannot_be_a_team_is_refused(self, shop, words, said):
        error = shop.run("team", "add", *words, code=2).stderr
        assert said in error
        assert shop.json("team", "list")["teams"] == []

    def test_a_team_is_added_once(self, shop):
        add(shop, "growth")
        again = shop.run("team", "add", "growth", "--can", "events", "--quota", "1/s", code=2)
        assert "feilun team rotate growth" in again.stderr

    def test_change_gives_other_scopes_or_another_quota(self, shop):
        add(shop, "growth")
        shop.run("team", "change", "growth", "--can", "/api/recommend, events,recommend")
        shop.run("team", "change", "growth", "--quota", "0.5/s")
        (team,) = shop.json("team", "list")["teams"]
        assert (team["scopes"], team["quota"]) == (["recommend", "events"], 0.5)
        assert "--quota 5/s" in shop.run("team", "change", "growth", code=2).stderr
        assert "Did you mean 'growth'?" in (
            shop.run("team", "change", "grwth", "--quota", "1/s", code=2).stderr
        )

    def test_rotate_leaves_the_old_key_a_grace_and_gives_the_new_one_as_long(self, shop):
        add(shop, "growth", "events", "--expires", "90d")
        said = shop.run("team", "rotate", "growth", "--grace", "2h").stdout
        assert said.count("flk_") == 1
        old, new = shop.json("team", "list")["teams"][0]["keys"]
        assert old["state"] == new["state"] == "valid"
        now = new["created"]
        assert old["expires"] == now + 2 * HOUR
        assert new["expires"] == now + 90 * DAY
        assert to_iso(old["expires"])[:16] in said

    def test_rotate_now_revokes_the_old_key(self, shop):
        add(shop, "growth")
        shop.run("team", "rotate", "growth", "--now", "--grace", "1d", code=2)
        shop.run("team", "rotate", "growth", "--now")
        old, new = shop.json("team", "list")["teams"][0]["keys"]
        assert (old["state"], new["state"], new["expires"]) == ("revoked", "valid", None)

    def test_a_revoked_team_can_do_nothing_until_it_is_added_again(self, shop):
        add(shop, "growth")
        shop.run("team", "revoke", "growth")
        shop.run("team", "revoke", "growth")
        shop.run("team", "rotate", "growth", code=2)
        shop.run("team", "change", "growth", "--quota", "1/s", code=2)
        assert shop.run("team", "list").stdout.count("revoked") == 1
        add(shop, "growth")
        states = [key["state"] for key in shop.json("team", "list")["teams"][0]["keys"]]
        assert states == ["revoked", "valid"]

    def test_every_act_is_in_the_audit_log_with_who_did_it(self, shop):
        add(shop, "growth")
        shop.run("team", "change", "growth", "--quota", "3/s")
        shop.run("team", "rotate", "growth")
        shop.run("team", "revoke", "growth")
        found = shop.json("audit")["audit"]
        assert [entry["action"] for entry in found] == [
            "team add", "team change", "team rotate", "team revoke"]  # fmt: skip
        assert {entry["by"] for entry in found} == {getpass.getuser()}
        assert len(shop.json("audit", "--limit", 2)["audit"]) == 2
        assert "3/s" in shop.run("audit").stdout

    def test_an_erasure_is_audited_without_whom_it_took(self, shop):
        shop.json("erase", "user_id=987654321")
        (entry,) = shop.json("audit")["audit"]
        assert (entry["action"], entry["subject"]) == ("erase", "erasure 1")
        assert "987654321" not in json.dumps(entry)

    def test_usage_needs_a_day_and_a_team_that_is_there(self, shop):
        assert "not a date" in shop.run("team", "usage", "--since", "yesterday", code=2).stderr
        assert "no team" in shop.run("team", "usage", "nobody", code=2).stderr
        assert "Answered requests since" in shop.run("team", "usage").stdout


class TestReach:
    """Who could reach the gateway from elsewhere needs keys, whatever the way."""

    def toml(self, shop, *lines):
        (shop.root / "feilun.toml").write_text(
            f'[project]\nmodule = "shop.py"\n[platform]\nport = {shop.port}\n' + "\n".join(lines)
        )

    @pytest.mark.parametrize("command", [["up"], ["serve", "gateway"]])
    def test_beyond_loopback_without_keys_nothing_starts(self, shop, command):
        self.toml(shop, 'host = "0.0.0.0"')
        error = shop.run(*command, code=2).stderr
        assert "feilun team add" in error
        assert 'keys = "required"' in error

    @pytest.mark.parametrize("command", [["up"], ["serve", "gateway"]])
    @pytest.mark.parametrize("line", ['host = "0.0.0.0"', 'hosts = ["shop.example"]'])
    def test_beyond_loopback_without_a_team_nothing_starts(self, shop, command, line):
        self.toml(shop, line, 'keys = "required"')
        assert "feilun team add" in shop.run(*command, code=2).stderr
        add(shop, "growth")
        shop.run("team", "revoke", "growth")
        assert "feilun team add" in shop.run(*command, code=2).stderr

    def test_names_of_a_proxy_are_answered_where_they_are_said(self, shop, start):
        self.toml(shop, 'hosts = ["Shop.Example"]', 'keys = "required"')
        key = add(shop, "growth")
        with start(shop):
            hosts = ("shop.example", "SHOP.EXAMPLE:443", "127.0.0.1", "evil.example", "example")
            found = [shop.status(PATH, key, Host=host) for host in hosts]
            assert found == [200, 200, 200, 403, 403]
            assert shop.status(PATH, Host="shop.example") == 401
