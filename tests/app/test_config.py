import pytest

from feilun.app.config import find, load, prepare_data
from feilun.errors import ConfigError


def write(folder, text):
    (folder / "feilun.toml").write_text(text, encoding="utf-8")
    return folder


def test_everything_has_a_default(tmp_path):
    config = load(write(tmp_path, ""))
    assert config.module == tmp_path.resolve() / "project.py"
    assert config.data == tmp_path.resolve() / ".feilun"
    assert config.url == "http://127.0.0.1:8600"
    assert (config.workers, config.clock) == (1, "wall")


def test_the_nearest_project_upwards_is_found(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    write(tmp_path, "")
    assert find(inner) == tmp_path.resolve()
    write(inner, "")
    assert find(inner) == inner.resolve()


def test_no_project_says_how_to_begin_one(tmp_path):
    with pytest.raises(ConfigError, match="feilun init"):
        find(tmp_path)


def test_all_problems_come_at_once(tmp_path):
    text = """
    [projekt]
    [project]
    module = "shop.txt"
    [platform]
    prot = 1
    port = 70000
    workers = "two"
    clock = "sundial"
    host = "0.0.0.0"
    """
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    lines = caught.value.message.splitlines()
    assert len(lines) == 7
    for part in (
        "[projekt]",
        "Did you mean 'project'?",
        "Did you mean 'port'?",
        "workers must be a whole number",
        "0.0.0.0",
        "sundial",
        "70000",
        "must name a .py file",
    ):
        assert part in caught.value.message


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::"])
def test_only_loopback_unless_keys_are_required(tmp_path, host):
    with pytest.raises(ConfigError, match='keys = "required"'):
        load(write(tmp_path, f'[platform]\nhost = "{host}"'))
    config = load(write(tmp_path, f'[platform]\nhost = "{host}"\nkeys = "required"'))
    assert not config.is_loopback


@pytest.mark.parametrize("host", ["example.com", "", "127.0.0.1:80", "loopback"])
def test_a_host_is_an_address(tmp_path, host):
    with pytest.raises(ConfigError, match="not an address"):
        load(write(tmp_path, f'[platform]\nhost = "{host}"\nkeys = "required"'))


def test_names_of_a_proxy_need_keys_too(tmp_path):
    with pytest.raises(ConfigError, match='keys = "required"'):
        load(write(tmp_path, '[platform]\nhosts = ["shop.example"]'))
    config = load(write(tmp_path, '[platform]\nhosts = ["Shop.Example"]\nkeys = "required"'))
    assert config.hosts == {"shop.example"}


@pytest.mark.parametrize("name", ["http://a", "a:80", "*", "a/b", "", "-a", "a b"])
def test_what_is_no_name_of_a_host_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="not a host's name"):
        load(write(tmp_path, f'[platform]\nhosts = ["{name}"]\nkeys = "required"'))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('hosts = "a"', "must be a list"),
        ("hosts = [1]", "not a host's name"),
        ('keys = "none"', "must be auto or required"),
        ("keys = true", "must be text"),
    ],
)
def test_other_values_of_hosts_and_keys_are_refused(tmp_path, line, said):
    with pytest.raises(ConfigError, match=said):
        load(write(tmp_path, f"[platform]\n{line}"))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9"),
        ("::1", "http://[::1]:9"),
        ("localhost", "http://localhost:9"),
        ("0.0.0.0", "http://127.0.0.1:9"),
        ("::", "http://[::1]:9"),
    ],
)
def test_the_url_is_where_this_machine_reaches_it(tmp_path, host, url):
    text = f'[platform]\nhost = "{host}"\nport = 9\nkeys = "required"'
    assert load(write(tmp_path, text)).url == url


def test_true_is_not_a_port(tmp_path):
    with pytest.raises(ConfigError, match="whole number"):
        load(write(tmp_path, "[platform]\nport = true"))


def test_a_table_must_be_a_table(tmp_path):
    with pytest.raises(ConfigError, match="must be a table"):
        load(write(tmp_path, 'platform = "here"'))


def test_what_is_not_toml_names_its_line(tmp_path):
    with pytest.raises(ConfigError, match="line 2"):
        load(write(tmp_path, "[project]\nmodule = shop.py"))


def test_what_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "feilun.toml").write_bytes("# 飞轮".encode("gb18030"))
    with pytest.raises(ConfigError, match="UTF-8"):
        load(tmp_path)


def test_the_command_line_outranks_the_file_and_is_checked_too(tmp_path):
    write(tmp_path, "[platform]\nport = 9")
    assert load(tmp_path, port=10).port == 10
    with pytest.raises(ConfigError, match="sundial"):
        load(tmp_path, clock="sundial")


def test_a_data_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    config = load(write(tmp_path, '[platform]\ndata = "file/data"'))
    with pytest.raises(ConfigError, match="cannot be written"):
        prepare_data(config)


def test_the_origins_of_pages(tmp_path):
    said = '[platform]\norigins = ["https://shop.example", "http://127.0.0.1:8080"]'
    config = load(write(tmp_path, said))
    assert config.origins == ("https://shop.example", "http://127.0.0.1:8080")
    assert load(write(tmp_path, "")).origins == ()


@pytest.mark.parametrize(
    "origin",
    [
        '"*"', '"null"', "7", '"shop.example"', '"https://shop.example/"', '"https://Shop.example"',
        '"https://shop.example:443"', '"http://shop.example:80"', '"https://u@shop.example"',
        '"https://*.example"',
    ],
)  # fmt: skip
def test_what_no_browser_would_send_is_no_origin(tmp_path, origin):
    with pytest.raises(ConfigError, match="origin"):
        load(write(tmp_path, f"[platform]\norigins = [{origin}]"))


def test_origins_are_a_list(tmp_path):
    with pytest.raises(ConfigError, match="must be a list"):
        load(write(tmp_path, '[platform]\norigins = "https://shop.example"'))
