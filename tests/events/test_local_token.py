"""Whose token a program finds: its own project's, for its own gateway, if it is nobody else's."""

import pytest

from feilun.errors import ConfigError
from feilun.events.client import Client
from feilun.events.local_token import local_token

TOKEN = "flt_" + "a" * 43


@pytest.fixture
def project(tmp_path):
    (tmp_path / "feilun.toml").write_text("[platform]\nport = 8700\n")
    run = tmp_path / ".feilun" / "run"
    run.mkdir(parents=True)
    (run / "token").write_text(TOKEN + "\n")
    (run / "token").chmod(0o600)
    return tmp_path


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_it_is_found_from_within_the_project(project, host):
    inner = project / "a" / "b"
    inner.mkdir(parents=True)
    assert local_token(host, 8700, inner) == local_token(host, 8700, project) == TOKEN


@pytest.mark.parametrize(
    ("host", "port"),
    [("127.0.0.1", 8600), ("shop.example", 8700), ("127.0.0.1.evil.example", 8700), ("", 8700)],
)
def test_it_goes_to_no_other_server(project, host, port):
    assert local_token(host, port, project) == ""


def test_the_port_and_the_folder_have_their_defaults(project):
    (project / "feilun.toml").write_text("")
    assert local_token("localhost", 8600, project) == TOKEN
    (project / "feilun.toml").write_text('[platform]\ndata = "elsewhere"\n')
    assert local_token("localhost", 8600, project) == ""
    (project / ".feilun").rename(project / "elsewhere")
    assert local_token("localhost", 8600, project) == TOKEN


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_one_that_others_may_read_is_not_used(project, mode):
    (project / ".feilun/run/token").chmod(mode)
    assert local_token("localhost", 8700, project) == ""


@pytest.mark.parametrize("text", ["not toml [", "platform = 3", "[platform]\nport = 'x'", "\xff"])
def test_damaged_settings_give_none(project, text):
    (project / "feilun.toml").write_text(text, encoding="latin-1")
    assert local_token("localhost", 8700, project) == ""


def test_outside_a_project_there_is_none(tmp_path):
    assert local_token("localhost", 8600, tmp_path) == ""


def header(url, **options):
    with Client(url, source="web", **options) as client:
        return client._headers.get("Authorization")


class TestClient:
    url = "http://localhost:8700"

    @pytest.fixture(autouse=True)
    def here(self, project, monkeypatch):
        monkeypatch.chdir(project)
        monkeypatch.delenv("FEILUN_KEY", raising=False)

    def test_what_is_given_outranks_the_environment_and_that_the_token(self, monkeypatch):
        assert header(self.url) == f"Bearer {TOKEN}"
        monkeypatch.setenv("FEILUN_KEY", "flk_env\n")
        assert header(self.url) == "Bearer flk_env"
        assert header(self.url, key="flk_given") == "Bearer flk_given"
        assert header(self.url, key="") is None

    def test_the_token_does_not_leave_the_machine(self):
        assert header("http://shop.example:8700") is None
        assert header("http://localhost:8701") is None
        assert header("http://localhost") is None

    @pytest.mark.parametrize("key", ["a\r\nX-Other: 1", "schlüssel", "a\x00b"])
    def test_what_cannot_be_a_key_is_refused_and_not_repeated(self, key):
        with pytest.raises(ConfigError) as caught:
            Client(self.url, source="web", key=key)
        assert key not in str(caught.value)

    @pytest.mark.parametrize(
        "url", ["http://user:flk_x@localhost:8700", "http://localhost:8700/?key=flk_x"]
    )
    def test_a_key_in_the_address_is_refused_and_not_repeated(self, url):
        with pytest.raises(ConfigError) as caught:
            Client(url, source="web")
        assert "flk_x" not in str(caught.value)
