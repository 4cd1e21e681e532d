import gettext
import importlib.util
import io
import os
import string
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("babel")

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location(
    "update_messages", ROOT / "tools" / "update_messages.py"
)
assert _spec is not None
assert _spec.loader is not None
tool = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tool)


def fields(text):
    return {name for _text, name, _spec, _conversion in string.Formatter().parse(text) if name}


def test_every_message_has_a_chinese_translation():
    catalog = tool.stored()
    said = {str(message.id) for message in tool.template() if message.id}
    translated = {str(message.id) for message in catalog if message.id}
    assert said - translated == set(), "run: make messages, then translate"
    assert translated - said == set(), "obsolete; run: make messages"
    assert not catalog.obsolete
    assert tool.untranslated(catalog) == []


def test_translations_keep_the_placeholders():
    clicks = set(tool.clicks_messages())
    for message in tool.stored():
        if message.id:
            known = {field for form in tool.forms(message.id) for field in fields(form)}
            used = {field for form in tool.forms(message.string) for field in fields(form)}
            # Click fills some with English words, which a translation does without.
            assert used <= known if message.id in clicks else used == known, message.id


def test_the_compiled_file_is_that_of_the_sources():
    assert tool.PO.with_suffix(".mo").read_bytes() == tool.compiled(tool.stored())


def test_the_compiled_file_is_readable_by_gettext():
    translations = gettext.GNUTranslations(io.BytesIO(tool.compiled(tool.stored())))
    assert translations.gettext("Options") == "选项"
    for count in (1, 2):
        said = translations.ngettext(
            "Option {name!r} requires an argument.",
            "Option {name!r} requires {nargs} arguments.",
            count,
        )
        assert said == "选项 {name!r} 需要 {nargs} 个值。"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "选项"),
        ({"LANG": "zh_TW.UTF-8"}, "选项"),
        ({"LC_ALL": "en_US.UTF-8", "LANG": "zh_CN.UTF-8"}, "Options"),
        ({"LANGUAGE": "zh_CN:en", "LANG": "en_US.UTF-8"}, "选项"),
        ({}, "Options"),
    ],
)
def test_the_command_line_speaks_the_language_of_the_environment(environment, expected):
    names = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
    base = {key: value for key, value in os.environ.items() if key not in names}
    result = subprocess.run(
        [sys.executable, "-m", "feilun", "--help"],
        env={**base, "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert expected in result.stdout
    assert ("显示本说明后退出。" in result.stdout) is (expected == "选项")
