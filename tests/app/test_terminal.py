import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from feilun.app.logs import JsonLines
from feilun.app.terminal import complain, json_line, printable, say, say_table

CONTROLS = {
    *range(0x20),
    *range(0x7F, 0xA0),
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    0x2028,
    0x2029,
}


@given(st.text())
def test_nothing_that_was_sent_can_control_a_terminal(text):
    shown = printable(text)
    assert not CONTROLS & set(map(ord, shown))
    assert "\n" not in shown


@given(st.dictionaries(st.text(), st.text(st.characters(categories=["Cc", "Cf", "Cs", "L", "Z"]))))
def test_json_for_scripts_controls_no_terminal_and_means_the_same(value):
    line = json_line(value)
    assert not CONTROLS & set(map(ord, line))
    assert json.loads(line) == value
    line.encode()


@pytest.mark.parametrize(
    "sent", ["a\nlevel: error", "\x1b[2J", "\x9b2J", "\u202e", "\u2028", "\ud800"]
)
def test_nothing_that_was_sent_breaks_or_paints_the_log(sent):
    try:
        raise ValueError(sent)
    except ValueError:
        record = logging.LogRecord("feilun", 30, "f", 1, "%s", (sent,), sys.exc_info())
    line = JsonLines().format(record)
    assert not CONTROLS & set(map(ord, line))
    assert json.loads(line)["message"] == sent


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_what_is_harmless_stays_as_it_is(text):
    assert printable(text) == text


def test_what_people_read_keeps_its_lines_but_no_escapes(capsys):
    say("飞轮\nred \x1b[31m")
    assert capsys.readouterr().out == "飞轮\nred \\x1b[31m\n"


def test_an_error_is_two_lines_on_standard_error(capsys):
    complain("It failed\x1b[2J.", "Do this.")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: It failed\\x1b[2J.\ntry: Do this.\n"


def test_columns_align_with_wide_characters(capsys):
    say_table(("名称", "n"), [("飞轮", 1), ("ab", 2), ("[red]x[/red]", 3)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.rstrip()[-1:] in "123"]
    starts = {cell_len(line.rstrip()[:-1]) for line in lines if line.strip()}
    assert len(starts) == 1
    assert any("[red]x[/red]" in line for line in lines)
