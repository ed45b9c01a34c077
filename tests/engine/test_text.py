"""Text from outside is safe to draw."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.text import clean, tail

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# escape sequences in all states of repair are likelier from these than from random text
nasty = st.text(st.sampled_from("\x1b[]PX^_\\\x07\x9b\r\n\t\u202e03;mHab")) | st.text()


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("a\x00b\x08c\x7fd\x9be", "abcde"),
        ("abc\u202etxt.exe", "abctxt.exe"),
        ("plain ü 漢字 🎛", "plain ü 漢字 🎛"),
        ("a\tb\nc", "a\tb\nc"),
    ],
)
def test_escapes_go_and_text_stays(raw: str, safe: str) -> None:
    assert clean(raw) == safe


def test_one_line() -> None:
    assert clean("a\n\n\tb\r\nc", keep_lines=False) == "a b c"


@settings(deadline=None)
@given(nasty)
def test_nothing_that_controls_a_terminal_is_left(text: str) -> None:
    assert not CONTROL.search(clean(text))
    assert not CONTROL.search(clean(text, keep_lines=False))
    assert "\n" not in clean(text, keep_lines=False)
    assert clean(clean(text)) == clean(text)


def test_tail_gives_the_last_lines_that_say_something() -> None:
    assert tail("one\n\n  \ntwo\r\nthree\n\n", 2) == ["two", "three"]
    assert tail("only", 5) == ["only"]
    assert tail("\n \n", 5) == []


def test_tail_shows_the_last_state_of_a_progress_bar() -> None:
    assert tail("0%\r50%\r100%\ndone", 5) == ["100%", "done"]


def test_tail_shows_a_progress_bar_that_was_cut_off() -> None:
    assert tail("Loading\n10%\r20%\r", 5) == ["Loading", "20%"]


def test_tail_skips_lines_of_nothing_but_colour() -> None:
    assert tail("ValueError: no\n\x1b[0m\n\x1b[0m\n", 2) == ["ValueError: no"]
