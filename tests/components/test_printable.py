"""What others named, in messages and log lines: on one line, escaped, and with an end."""

from __future__ import annotations

import pytest

from components.errors import MOST_PROBLEMS, Unavailable, UserError
from components.printable import LONGEST, MOST_LINES, one_line
from components.progress import log

#: Colours, a bell, a carriage return, C1's own introducer, a separator of lines, an override of direction, half a pair.
HOSTILE = "\x1b[31m\a\r\x9b2J\u2028\u202edecrah\ud800\0"
ESCAPED = r"\x1b[31m\x07\r\x9b2J\u2028\u202edecrah\ud800\x00"


def test_what_a_terminal_would_act_on_is_written_out() -> None:
    assert one_line(HOSTILE) == ESCAPED
    for kind in (UserError, Unavailable):
        assert str(kind(f"class {HOSTILE}: wrong")) == f"class {ESCAPED}: wrong"


@pytest.mark.parametrize("text", ["Lötstelle 50 % – ok", "划痕", "خط\u200cخوردگی", "a\u00a0b"])
def test_names_of_any_script_are_left_as_they_are(text: str) -> None:
    assert one_line(text) == text


def test_a_name_cannot_begin_a_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    log("class dent\n12:00:00  decision: all is well\x1b[2K")
    assert capsys.readouterr().out.count("\n") == 1
    assert "\n" not in str(UserError("class dent\nerror: another: done"))


def test_lines_of_our_own_stay(capsys: pytest.CaptureFixture[str]) -> None:
    text = "2 problems in the data\n  - a.txt: wrong\n  - b.txt: wrong"
    assert str(UserError(text)) == text
    log(text)
    assert capsys.readouterr().out.endswith(f"  {text}\n")


def test_a_message_has_an_end() -> None:
    assert len(str(UserError("x" * 20_000_000))) == LONGEST
    assert len(str(UserError("\x1b" * 20_000_000))) <= LONGEST
    assert str(UserError("a" + "\n  b" * 1_000_000)).count("\n") <= MOST_LINES
    many = str(UserError(*(f"problem {i}" for i in range(3000))))
    assert many.startswith("3,000 problems:\n  - problem 0\n")
    assert many.endswith("  - problem 19\n  and 2,980 more")
    assert many.count("\n") == MOST_PROBLEMS + 1


def test_a_password_that_reaches_past_the_end_of_a_message_is_not_begun() -> None:
    text = "x" * (LONGEST - 30) + " https://someone:" + "secret" * 20 + "@host/path"
    assert "secret" not in str(UserError(text))
