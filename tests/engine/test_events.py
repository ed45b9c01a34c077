"""One event, one line, and back."""

import contextlib
import dataclasses
import json
import math
import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import events as ev
from engine.events import Metric, Record, Unknown, decode, encode

EVENTS = [*typing.get_args(ev.WorkerEvent), *typing.get_args(ev.SupervisorEvent)]
EVENTS = list(dict.fromkeys(EVENTS))  # Notice is in both

text = st.text() | st.sampled_from(["\n", "a\r\nb", "\x00\x1b[0m", "\u2028\u2029\x85", "漢字 🎛", '"}\n{"v":1'])
whole = st.integers(-(2**53), 2**53)
finite = st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    st.none() | st.booleans() | whole | finite | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    int: whole,
    float: finite,
    bool: st.booleans(),
    str: text,
    list[str]: st.lists(text, max_size=3),
    list[int]: st.lists(whole, max_size=3),
    dict[str, str]: st.dictionaries(text, text, max_size=3),
    dict[str, int]: st.dictionaries(text, whole, max_size=3),
    dict[str, float]: st.dictionaries(text, st.floats(), max_size=4),
    dict[str, list[int]]: st.dictionaries(text, st.lists(whole, max_size=3), max_size=3),
    dict[str, Any]: st.dictionaries(text, anything, max_size=3),
    list[dict[str, Any]]: st.lists(st.dictionaries(text, anything, max_size=3), max_size=2),
    int | None: st.none() | whole,
    float | None: st.none() | finite,
}


def event_of(cls: Any) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{f.name: BY_TYPE[hints[f.name]] for f in dataclasses.fields(cls)})


records = st.builds(
    Record, st.integers(1, 2**40), st.floats(0, 4e9), st.integers(1, 99), st.one_of([event_of(c) for c in EVENTS])
)


def line(**fields: Any) -> str:
    return json.dumps({"v": 1, "seq": 3, "t": 5.5, "type": "phase", "attempt": 2, **fields}) + "\n"


def test_every_event_of_the_contract_is_known() -> None:
    worker = {
        "started",
        "phase",
        "progress",
        "metric",
        "memory",
        "sample",
        "checkpoint",
        "data",
        "notice",
        "failed",
        "finished",
        "done",
        "stopped",
        "base",
    }
    assert worker | {"attempt", "waiting", "stopping", "gpu", "exit"} == {cls.type for cls in EVENTS}


@settings(deadline=None, max_examples=300)
@given(records)
def test_every_event_comes_back_as_it_went(record: Record) -> None:
    encoded = encode(record)
    assert encoded.endswith("\n")
    assert encoded.encode().splitlines(keepends=True) == [encoded.encode()]
    assert repr(decode(encoded)) == repr(record)  # repr: nan is not equal to itself
    assert repr(decode(encoded.encode())) == repr(record)


def test_a_line_has_the_fields_of_the_contract_and_is_strict_json() -> None:
    encoded = encode(
        Record(12, 1.5, 2, Metric(7, {"loss": math.nan, "grad_norm": math.inf, "x": -math.inf, "ok": 0.5}))
    )

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(encoded, parse_constant=refuse) == {
        "v": 1, "seq": 12, "t": 1.5, "type": "metric", "attempt": 2,
        "step": 7, "values": {"loss": "nan", "grad_norm": "inf", "x": "-inf", "ok": 0.5},
    }  # fmt: skip


@pytest.mark.parametrize(
    "event",
    [ev.Checkpoint(5, "c", 1, {}, math.nan), ev.Memory(5, math.nan, math.inf, 1.0)],
    ids=["checkpoint", "memory"],
)
def test_a_non_finite_number_stays_a_number_in_every_event(event: Any) -> None:
    assert repr(decode(encode(Record(1, 1.0, 1, event))).event) == repr(event)


@settings(deadline=None)
@given(st.dictionaries(text.filter(lambda k: k not in {"v", "seq", "t", "type", "attempt"}), anything, max_size=4))
def test_an_unknown_event_is_kept_whole(data: dict[str, Any]) -> None:
    record = Record(1, 2.0, 1, Unknown("from_2031", data))
    assert decode(encode(record)) == record
    assert record.event.type == "from_2031"


def test_an_unknown_field_of_a_known_event_is_dropped() -> None:
    assert decode(line(name="train", text="", colour="red")).event == ev.Phase("train")


def test_a_known_event_that_lacks_a_field_is_kept_as_unknown() -> None:
    assert decode(line(text="no name")).event == Unknown("phase", {"text": "no name"})


def test_place_and_attempt() -> None:
    assert decode(line(name="x")) == Record(3, 5.5, 2, ev.Phase("x"))
    assert decode('{"seq": 1, "t": 2, "type": "phase", "name": "x"}').attempt == 1


GARBAGE = [
    "",
    "\n",
    "{",
    "null",
    "[]",
    "12",
    '"x"',
    "{}",
    '{"seq":1,"t":2}',
    '{"seq":1,"type":"phase"}',
    b"\xff\xfe\x00",
    b"\x00" * 40,
]


@pytest.mark.parametrize("bad", GARBAGE)
def test_garbage_is_a_value_error(bad: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's and ours
        decode(bad)


@settings(deadline=None)
@given(st.text() | st.binary() | anything.map(json.dumps))
def test_whatever_is_no_event_is_a_value_error(bad: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode(bad)


@pytest.mark.parametrize(
    "bad",
    [
        line(type="metric", step=1, values={"loss": None}),
        line(type="metric", step=1, values={"loss": [1]}),
        line(type="metric", step=1, values=[1]),
        line(seq=None, name="x"),
        line(t=None, name="x"),
    ],
)
def test_an_event_with_a_value_of_the_wrong_kind_does_not_poison_the_file(bad: str) -> None:
    with contextlib.suppress(ValueError):  # refused: as good
        assert isinstance(decode(bad).event, Unknown)
