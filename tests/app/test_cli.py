"""The command line as users meet it, without a running platform."""

import os
import re
import resource
import statistics
import subprocess
import sys

import pytest

HEAVY = (
    "numpy", "lmdb", "mlflow", "polars", "pandas", "sklearn", "lightgbm", "uvicorn", "rich",
    "pydantic", "typer",
)  # fmt: skip


def cpu_seconds(*arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_quick():
    """Less than 0.15 s on a machine that imports Click in 0.06 s; in proportion on a slower one.

    Processor time, and measured beside the import of Click: other tests run at the same time.
    """
    pairs = [
        (cpu_seconds("-m", "feilun", "--help"), cpu_seconds("-c", "import click")) for _ in range(7)
    ]
    ours, clicks = (statistics.median(column) for column in zip(*pairs, strict=True))
    assert ours < 0.15 * max(1.0, clicks / 0.06)


def imported(lines):
    """Return the modules that ``python -X importtime`` names."""
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["team", "add", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "feilun", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = imported(result.stderr.splitlines())
    assert "click" in found
    assert not found & set(HEAVY)


@pytest.mark.parametrize("part", ["gateway", "engine", "flywheel", "sync", "archiver", "encoder"])
def test_no_process_carries_a_framework_for_its_command_line(shop, until, part):
    path = shop.root / "said.txt"
    with path.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "feilun", "serve", part],
            cwd=shop.root,
            stderr=said,
        )
    try:
        until(lambda: re.search(r'(ready|listening on [^"]*)"}', path.read_text()))
    finally:
        process.terminate()
        process.wait(timeout=30)
    found = imported(path.read_text().splitlines())
    assert "click" in found
    assert not found & {"pydantic", "pydantic_core", "typer"}


def test_help_explains_the_exit_codes(shop):
    said = " ".join(shop.run("--help").stdout.split())
    assert "Exit codes: 0 done; 1 failed at run time; 2 the command" in said
    assert shop.run().stdout == shop.run("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tuurn"], "tuurn"),
        (["check", "--nonsense"], "--nonsense"),
        (["serve", "kitchen"], "kitchen"),
        (["up", "--port", "0"], "--port"),
        (["send"], "--file"),
        (["send", "click", "user_id"], "NAME=VALUE"),
        (["send", "clik", "user_id=1"], "click"),
        (["send", "click", "user=1"], "user_id"),
        (["send", "click", "user_id=x"], "int"),
        (["send", "--file", "nowhere.jsonl"], "nowhere.jsonl"),
        (["history", "--at", "yesterday"], "yesterday"),
        (["history", "nobody"], "ranker"),
        (["rollback", "nobody"], "ranker"),
        (["rollout", "start", "ranker", "1"], "--shadow"),
        (["rollout", "start", "nobody", "1", "--shadow"], "ranker"),
        (["rollout", "set", "ranker", "5"], "rollout start"),
        (["rollout", "stop", "ranker"], "rollout start"),
        (["features"], "ADDRESS"),
        (["features", "user_profil:clicks", "user_id=1"], "user_profile"),
        (["import", "nowhere.csv", "--event", "click", "--time", "t"], "nowhere.csv"),
    ],
)
def test_a_wrong_command_is_two_lines_and_exit_code_2(shop, arguments, said):
    error = shop.run(*arguments, code=2).stderr
    assert said in error
    assert error.startswith("error: ")
    assert len(error.splitlines()) <= 4


def test_check_shows_what_is_defined(shop):
    said = shop.run("check").stdout
    assert "user_profile:top_items" in said
    assert "/api/recommend" in said
    found = shop.json("check")
    assert found["capabilities"] == {"/api/recommend": "ranker"}
    assert found["features"]["user_item:clicks"]["entity"] == ["user_id", "item_id"]
    assert found["features"]["user_item:clicks"]["used_by"] == ["ranker"]


def test_what_features_are_made_of_is_shown_and_arithmetic_is_read(shop):
    path = shop.root / "shop.py"
    text = path.read_text().replace(
        "    top_items =",
        "    half = clicks / 2\n    over = clicks / (clicks - clicks)\n"
        "    of_some = fl.distinct(\n"
        "        Click.item_id, where=(Click.item_id > 3) & ~Click.user_id.is_in([2, 1])\n"
        "    )\n"
        "    middle = fl.quantile(Click.item_id, 0.5)\n    top_items =",
    )
    path.write_text(text)
    features = shop.json("check")["features"]
    assert features["user_profile:of_some"]["from"] == (
        "distinct(click.item_id, where=((item_id > 3) & ~user_id.is_in([1, 2])))"
    )
    assert features["user_profile:middle"]["from"] == "quantile(click.item_id, 0.5)"
    assert features["user_profile:half"] == {
        "entity": ["user_id"], "from": "(user_profile:clicks / 2.0)", "window": "", "used_by": [],
    }  # fmt: skip
    shop.run("rebuild")
    found = shop.json("features", "user_profile:half", "user_id=1")["features"]
    assert found == {"user_profile:half": 0.0}
    found = shop.json("features", "user_profile", "user_id=1")["features"]
    assert found["user_profile:over"] is None
    assert found["user_profile:clicks"] == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import feilun as fl\nx = = 2\n", "shop.py:2"),
        ("import feilun as fl\n\nx = 1 / 0\n", "shop.py:3"),
        ("import nothing_of_that_name\n", "shop.py:1"),
        (b"x = '\xff\xfe'\n", "shop.py"),
        ("import sys\nsys.exit(3)\n", "shop.py:2"),
    ],
)
def test_a_broken_definition_file_names_the_line(shop, text, said):
    (shop.root / "shop.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert said in shop.run("check", code=2).stderr


def test_up_starts_nothing_on_broken_definitions(shop):
    (shop.root / "shop.py").write_text("x = 1 / 0")
    assert "shop.py:1" in shop.run("up", code=2).stderr
    assert not (shop.root / ".feilun").exists()


def test_every_problem_of_the_definitions_comes_at_once(shop):
    text = (shop.root / "shop.py").read_text()
    text = text.replace('metric="precision@10"', 'metric="prettiness"')
    text = text.replace('timezone="Asia/Shanghai"', 'timezone="Asia/Nowhere"')
    (shop.root / "shop.py").write_text(text)
    error = shop.run("check", code=2).stderr
    assert "prettiness" in error
    assert "Asia/Nowhere" in error


def test_without_a_project_there_is_a_way_on(shop, tmp_path_factory):
    error = shop.run("check", code=2, cwd=tmp_path_factory.mktemp("empty")).stderr
    assert "feilun.toml" in error
    assert "feilun init" in error


def test_a_project_is_found_from_a_folder_within_it(shop):
    (shop.root / "a").mkdir()
    shop.run("check", cwd=shop.root / "a")
    shop.run("check", "--project", shop.root, cwd="/")


def test_init_writes_a_project_that_checks_and_never_overwrites(shop, tmp_path):
    target = tmp_path / "mine"
    said = shop.run("init", "shop", "--project", target).stdout
    assert f"cd {target} && feilun up" in said
    shop.run("check", cwd=target)
    before = (target / "shop.py").read_bytes()
    assert "shop.py" in shop.run("init", "shop", "--project", target, code=2).stderr
    assert (target / "shop.py").read_bytes() == before
    assert "shop" in shop.run("init", "../shop", code=2).stderr


@pytest.mark.parametrize("command", ["up", "serve"])
def test_a_data_folder_that_cannot_be_written(shop, command):
    (shop.root / ".feilun").write_text("in the way")
    arguments = [command, "engine"] if command == "serve" else [command]
    error = shop.run(*arguments, code=2).stderr
    assert "cannot be written" in error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_data_folder_without_the_right_to_write(shop):
    (shop.root / ".feilun").mkdir(mode=0o500)
    assert "cannot be written" in shop.run("up", code=2).stderr


def test_a_gateway_that_does_not_answer_is_exit_code_3(shop):
    assert "feilun up" in shop.run("send", "click", "user_id=1", "item_id=2", code=3).stderr
    shop.run("status", code=3)


def test_feilun_debug_shows_where(shop):
    result = subprocess.run(
        [sys.executable, "-m", "feilun", "check"],
        cwd="/",
        env={**os.environ, "FEILUN_DEBUG": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" in result.stderr


def test_errors_come_in_chinese(shop):
    shop.environment = {"LANG": "zh_CN.UTF-8", "LC_ALL": "", "LANGUAGE": ""}
    error = shop.run("up", code=2, cwd="/").stderr
    assert error.startswith("错误：")


ENGLISH = re.compile(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}")
"""Three words in a row are a sentence that nobody has translated."""
COMMAND = re.compile(r"feilun( [a-z]+){1,3}")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["rollout", "stop", "ranker"], 2),
        (["rollout", "set", "ranker", "200"], 2),
        (["rollout", "set", "ranker", "0"], 2),
        (["rollback", "ranker"], 3),
        (["adopt", "ranker", "http://shop.example/score"], 2),
        (["import", "unknown.bin", "--event", "click", "--time", "when"], 2),
        (["import", "unknown.bin", "--event", "clik", "--time", "when"], 2),
        (["import", "unknown.bin", "--event", "click", "--time", "t", "--map", "a=b"], 2),
        (["adopt", "ranker", "pickle.bin"], 1),
        (["adopt", "ranker", "unknown.bin"], 1),
        (["tuurn"], 2),
        (["rollout"], 2),
        (["check", "--projet", "x"], 2),
        (["serve", "kitchen"], 2),
        (["serve"], 2),
        (["up", "--port", "0"], 2),
        (["events", "bad", "--from", "x"], 2),
        (["history", "a", "b"], 2),
        (["team", "add", "a", "--can"], 2),
        (["team", "rotate", "nobody"], 2),
        (["team", "add", "a", "--can", "events", "--quota", "1/s", "--expires", "soon"], 2),
    ],
)
def test_no_command_mixes_the_languages(shop, arguments, code):
    (shop.root / "pickle.bin").write_bytes(b"\x80\x04K\x01.")
    (shop.root / "unknown.bin").write_bytes(b"nothing")
    shop.environment = {"LANG": "zh_CN.UTF-8", "LC_ALL": "", "LANGUAGE": ""}
    result = shop.run(*arguments, code=code)
    for line in (result.stdout + result.stderr).splitlines():
        assert not ENGLISH.search(COMMAND.sub("", line)), line
    assert result.stderr.startswith("错误：")


def test_no_share_is_no_shadow_by_accident(shop):
    error = shop.run("rollout", "set", "ranker", "0", code=2).stderr
    assert "--shadow" in error
    assert "rollout stop ranker" in error
    error = shop.run("rollout", "start", "ranker", "1", "--percent", "0", code=2).stderr
    assert "--shadow" in error
    assert "--shadow" in shop.run("rollout", "set", "ranker", code=2).stderr
    assert "--shadow" in shop.run("rollout", "set", "ranker", "5", "--shadow", code=2).stderr
