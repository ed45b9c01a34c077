"""The filter language: what a text means, what is said of one that means nothing, and that it prints as it reads."""

import pickle
import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import filtering
from engine.filtering import Either, Every, Expression, FilterError, Not, Term, Word, parse, pointed, written


def term(name: str, operator: str, *values: str | None) -> Term:
    return Term(name, operator, values)


MEANT: dict[str, Expression | None] = {
    "": None,
    "  \t ": None,
    "qwen": Word("qwen"),
    "lora-r16": Word("lora-r16"),
    "what!": Word("what!"),
    "- x": Every((Word("-"), Word("x"))),
    '"two words"': Word("two words"),
    r'"a \" and a \\"': Word('a " and a \\'),
    '"AND"': Word("AND"),
    "and": Word("and"),
    "a b": Every((Word("a"), Word("b"))),
    "a AND b": Every((Word("a"), Word("b"))),
    "a OR b c": Either((Word("a"), Every((Word("b"), Word("c"))))),
    "(a OR b) c": Every((Either((Word("a"), Word("b"))), Word("c"))),
    "NOT a b": Every((Not(Word("a")), Word("b"))),
    "-(a b)": Not(Every((Word("a"), Word("b")))),
    "--a": Not(Not(Word("a"))),
    "(((a)))": Word("a"),
    "a(b)": Every((Word("a"), Word("b"))),
    "status:finished": term("status", ":", "finished"),
    "status:finished,stopped": term("status", ":", "finished", "stopped"),
    "status:finished, stopped": term("status", ":", "finished", "stopped"),
    "lr<1e-3": term("lr", "<", "1e-3"),
    "lr <= 1e-3": term("lr", "<=", "1e-3"),
    "lr:>1e-3": term("lr", ">", "1e-3"),
    "lr==1e-3": term("lr", "=", "1e-3"),
    "rank!=8": term("rank", "!=", "8"),
    "model!~qwen": term("model", "!~", "qwen"),
    "lr:none": term("lr", ":", None),
    'lr:"none"': term("lr", ":", "none"),
    "-note:debug": Not(term("note", ":", "debug")),
    'text:"out of memory"': term("text", ":", "out of memory"),
    '"my metric (x)"<3': term("my metric (x)", "<", "3"),
    "note:a=b": term("note", ":", "a=b"),
    "created>2026-11-01": term("created", ">", "2026-11-01"),
    "status:finished lr<1e-3 tag:keep model~qwen eval_loss<1.2 -note:debug": Every((
        term("status", ":", "finished"), term("lr", "<", "1e-3"), term("tag", ":", "keep"), term("model", "~", "qwen"),
        term("eval_loss", "<", "1.2"), Not(term("note", ":", "debug")))),
}  # fmt: skip


@pytest.mark.parametrize("text", MEANT)
def test_what_a_filter_means(text: str) -> None:
    assert parse(text) == MEANT[text]


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("(a", 1, "not closed"),
        ("a)", 2, "never opened"),
        ("a ()", 3, "nothing between"),
        ('a "b', 3, "quote is not closed"),
        ("status:", 8, "value is missing"),
        ("status:a,", 10, "value is missing"),
        ("a lr<1,2", 8, "one value"),
        ("lr<none", 4, "none"),
        ("<3", 1, "field is missing before <"),
        ("a OR", 5, "missing here"),
        ("OR a", 1, "missing before OR"),
        ("a AND AND b", 7, "missing before AND"),
        ("-", 2, "missing here"),
        ('name:"a"b', 9, "space is missing"),
        ("a,b\udc80", 4, "no character"),
        ("(" * 100 + "a" + ")" * 100, 41, "in one another"),
        ("-" * 100 + "a", 41, "in one another"),
        ("a " * 300, 401, "at most 200"),
        ("id:" + ",".join("a" * 300), 1, "at most 200"),
        ("a" * 9000, 40, "at most 8,000 characters"),
    ],
)
def test_a_mistake_is_pointed_at(text: str, column: int, said: str) -> None:
    with pytest.raises(FilterError, match=said) as raised:
        parse(text)
    assert raised.value.column == column
    assert raised.value.exit_code == 2


def test_the_caret_stands_below_the_mistake_whatever_is_before_it() -> None:
    assert pointed("a <", 3) == ("a <", "  ^")
    assert pointed("\x1b[31m世界\t<3", 9) == ("·[31m世界 <3", " " * 10 + "^")
    error = FilterError("That is wrong", "lr<abc", 4, "Do it well.")
    assert error.message.splitlines() == ["That is wrong", "    lr<abc", "       ^"]
    again = pickle.loads(pickle.dumps(error))
    assert (again.problem, again.text, again.column, again.hint) == ("That is wrong", "lr<abc", 4, "Do it well.")


PIECES = st.sampled_from(
    [
        "AND",
        "OR",
        "NOT",
        "none",
        "(",
        ")",
        '"',
        "\\",
        "-",
        ",",
        ":",
        "=",
        "!",
        "<",
        ">",
        "~",
        " ",
        "a",
        "lr",
        "1e-3",
        "\0",
        "世",
    ]
)


def mistake(text: str) -> FilterError | None:
    try:
        parse(text)
    except FilterError as error:
        return error
    return None


@given(st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=20).map("".join)))
def test_any_text_is_a_filter_or_a_mistake_within_it(text: str) -> None:
    error = mistake(text)
    assert error is None or (1 <= error.column <= len(text) + 1 and error.hint)


TEXTS = st.one_of(st.sampled_from(["a", "none", "OR", "-x", "", "a b", 'say "hi"', "back\\slash", "é世", "1e-3", "a:b", "(", "!"]),
                  st.text(st.characters(exclude_categories=["Cs"]), max_size=8))  # fmt: skip
EQUALS = st.builds(lambda n, o, v: Term(n, o, tuple(v)), TEXTS, st.sampled_from([":", "=", "!="]),
                   st.lists(st.one_of(TEXTS, st.none()), min_size=1, max_size=3))  # fmt: skip
HOLDS = st.builds(lambda n, o, v: Term(n, o, tuple(v)), TEXTS, st.sampled_from(["~", "!~"]),
                  st.lists(TEXTS, min_size=1, max_size=3))  # fmt: skip
LESS = st.builds(lambda n, o, v: Term(n, o, (v,)), TEXTS, st.sampled_from(["<", "<=", ">", ">="]), TEXTS)
EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    st.one_of(st.builds(Word, TEXTS), EQUALS, HOLDS, LESS),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(lambda parts: Every(tuple(parts)), st.lists(inner, min_size=2, max_size=3)),
        st.builds(lambda parts: Either(tuple(parts)), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=12,
)


@given(EXPRESSIONS)
def test_what_is_written_is_read_as_it_was(expression: Expression) -> None:
    assert parse(written(expression)) == expression


def test_nothing_is_written_as_nothing() -> None:
    assert written(parse("")) == ""


@pytest.mark.parametrize(
    ("text", "number"),
    [("2e-4", 2e-4), ("1_000", 1000), ("4k", 4000), ("3M", 3e6), ("-1.5", -1.5), (".5", 0.5), ("7.", 7), ("nan", None),
     ("inf", None), ("1e", None), ("", None), ("0x10", None), ("1 2", None), ("٣", None)],
)  # fmt: skip
def test_numbers(text: str, number: float | None) -> None:
    assert filtering.number(text) == number


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("30min", 1800), ("1h30m", 5400), ("2d", 172800), ("1w", 604800), ("1.5h", 5400),
     ("30", None), ("m", None), ("", None), ("2 d", None), ("2y", None)],
)  # fmt: skip
def test_lengths_of_time(text: str, seconds: float | None) -> None:
    assert filtering.span(text) == seconds


def test_dates_are_from_and_to_in_local_time() -> None:
    now = datetime(2026, 11, 22, 15, 30).timestamp()

    def at(*when: int) -> float:
        return datetime(*when).timestamp()  # type: ignore[arg-type]

    assert filtering.moment("2026-11-01", now) == (at(2026, 11, 1), at(2026, 11, 2))
    assert filtering.moment("2026-12", now) == (at(2026, 12, 1), at(2027, 1, 1))
    assert filtering.moment("2026-11-01T14:30", now) == (at(2026, 11, 1, 14, 30), at(2026, 11, 1, 14, 31))
    assert filtering.moment("Today", now) == (at(2026, 11, 22), at(2026, 11, 23))
    assert filtering.moment("yesterday", now) == (at(2026, 11, 21), at(2026, 11, 22))
    for text in ("2026-02-30", "11/01/2026", "2d", "", "0001-01-01x"):
        assert filtering.moment(text, time.time()) is None


def test_where_the_parts_of_a_term_stand() -> None:
    found = parse("a status:x, yy")
    assert isinstance(found, Every)
    assert isinstance(found.parts[1], Term)
    assert (found.parts[1].column, found.parts[1].columns) == (3, (10, 13))
    assert [one.values for one in filtering.named(parse("-(IS:a OR b) is:c x"), "is")] == [("a",), ("c",)]
