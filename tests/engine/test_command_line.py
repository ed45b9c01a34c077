"""The command line and the file that make a run again: read back by the real parser, they give what was meant."""

import shlex
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.cli import build_parser
from engine.command_line import arguments, commented, differences, fewest, set_text
from engine.errors import SpecError
from engine.spec import RunSpec, apply_sets, parse

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)


def spec_of(*sets: str) -> RunSpec:
    return parse(apply_sets({"model": {"path": "m"}, "data": {"path": "d.jsonl"}}, list(sets)))


def read_back(line: str) -> RunSpec:
    """What the real parser makes of a line as a shell takes it apart."""
    options = build_parser().parse_args(shlex.split(line)[1:])
    raw: dict[str, Any] = {"model": {"path": options.model}}
    raw |= {"data": {"path": options.data}} if options.data else {}
    return parse(apply_sets(raw, options.sets))


@settings(deadline=None)
@given(VALUES)
@example("1e5")
@example("2024-01-01")
@example("yes")
@example("null")
@example(" a: b # c")
@example("'quoted'")
@example("\x7f\x85\u2028\ud800\ufeff")
@example([1e-05, 2.5e20, "3e-4", "~", "a b"])
@example(1e-05)
@example(0.1 + 0.2)
def test_every_value_is_read_as_itself(value: Any) -> None:
    assert apply_sets({}, [set_text("a.b", value)]) == {"a": {"b": value}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0001, "1e-4"), (6.3e-05, "6.3e-5"), (0.05, "0.05"), (3.0, "3"), (2.5, "2.5"), (True, "true"), (None, "null"),
        (["q_proj", "v_proj"], "[q_proj, v_proj]"), ("all-linear", "all-linear"), ("Ahoy, you", "Ahoy, you"),
    ],
)  # fmt: skip
def test_values_stand_as_people_write_them(value: Any, text: str) -> None:
    assert set_text("a", value) == f"a={text}"


def test_a_text_in_quotes_stays_one() -> None:
    assert apply_sets({}, ["a='2e-4'", "b=2e-4", 'c="7"']) == {"a": "2e-4", "b": 2e-4, "c": "7"}


def test_a_line_with_everything_that_needs_quoting_comes_back() -> None:
    wanted = spec_of(
        "run.name='1e5'", "run.note=\"it's $HOME; `ls` \\\"x\\\"\"", "evaluation.prompts=['Say \"hi\"', \"a\\nb\", 'ü']",
        "training.learning_rate=6.3e-5", "data.columns={instruction: 'Frage, lang'}", "method.targets=[q_proj, v_proj]",
        "method.kind=lora", "data.filters.exclude=['\\d+ #']", "extra.trainer.adam_beta2=0.95",
    )  # fmt: skip
    bare = spec_of()
    sets = {path: now for path, (_, now) in differences(wanted, bare).items()}
    line = shlex.join(arguments(wanted, sets))
    assert "\n" not in line
    assert read_back(line) == wanted
    assert read_back(shlex.join(arguments(bare, {}))) == bare


def test_several_sources_are_set() -> None:
    wanted = parse(
        {"model": {"path": "m"}, "data": {"path": [{"path": "a b.jsonl", "weight": 0.5}, {"path": "c.jsonl"}]}}
    )
    line = shlex.join(arguments(wanted, {}))
    assert "--data" not in line
    assert read_back(line) == wanted


def test_the_goal_is_said_where_it_is_not_the_usual_one() -> None:
    assert "--goal" not in arguments(spec_of(), {})
    options = build_parser().parse_args(arguments(spec_of(), {}, "domain")[1:])
    assert options.goal == "domain"


def test_differences_name_both_values() -> None:
    one, other = spec_of("method.kind=qlora", "method.quantization.bits=4"), spec_of("training.epochs=2")
    assert differences(one, other) == {
        "method.kind": (None, "qlora"), "method.quantization.bits": (None, 4), "method.quantization.type": (None, "nf4"),
        "method.quantization.double": (None, True), "training.epochs": (2.0, None),
    }  # fmt: skip
    assert differences(one, one) == {}


def filled(sets: dict[str, Any]) -> RunSpec:
    """A planner of two rules: a rank of 8, and alpha twice the rank."""
    method = {"kind": "lora", "rank": 8, **{path.removeprefix("method."): value for path, value in sets.items()}}
    method.setdefault("alpha", 2.0 * method["rank"])
    if method["rank"] > 64 and method["alpha"] > 100:
        raise SpecError("Too much", "", "")
    return parse({"model": {"path": "m"}, "data": {"path": "d"}, "method": method})


def test_what_follows_need_not_be_given() -> None:
    target = filled({"method.rank": 32})
    assert fewest(("method.rank", "method.alpha", "method.kind"), target, filled({}), filled) == {"method.rank": 32}
    assert fewest(("method.alpha", "method.rank"), target, filled({}), filled) == {"method.rank": 32}


def test_what_does_not_follow_is_given() -> None:
    target = filled({"method.rank": 32, "method.alpha": 32.0})
    assert fewest(("method.rank", "method.alpha"), target, filled({}), filled) == {
        "method.rank": 32,
        "method.alpha": 32.0,
    }


def test_half_of_it_may_be_impossible() -> None:
    target = filled({"method.rank": 128, "method.alpha": 16.0})
    assert fewest(("method.rank", "method.alpha"), target, filled({}), filled) == {
        "method.rank": 128, "method.alpha": 16.0}  # fmt: skip
    assert fewest(("method.rank", "method.alpha"), target, None, filled) == {"method.rank": 128, "method.alpha": 16.0}


def test_none_where_it_cannot_be_made() -> None:
    assert fewest(("method.rank",), filled({"method.rank": 32, "method.alpha": 3.0}), filled({}), filled) is None


@settings(deadline=None)
@given(st.text(max_size=80), st.lists(st.text(), max_size=3), st.dictionaries(st.text(), VALUES, max_size=3), st.text())
@example("", [], {"False": {"": None}}, "")
@example("", [], {"`+\x85`": {"a": "£à"}}, "")
@example("a", ["x\n y\n\n z", "#"], {"a.b": {"c: d": [1]}}, "why\u2028\x07 # so")
def test_the_file_says_the_same_as_the_specification(
    note: str, prompts: list[str], more: dict[str, Any], why: str
) -> None:
    raw = {"model": {"path": "m"}, "data": {"path": "d"}, "training": {"learning_rate": 1e-5}}
    try:
        spec = parse(raw | {"run": {"note": note}, "evaluation": {"prompts": prompts}, "extra": {"trainer": more}})
    except SpecError:  # a name that may be a secret's
        return
    comments = dict.fromkeys(("model.path", "evaluation.prompts", "extra.trainer", "data.filters", "training"), why)
    text = commented(spec, comments, f"one\n{why}")
    assert parse(yaml.safe_load(text)) == spec


def test_reasons_stand_beside_what_they_are_for() -> None:
    text = commented(spec_of("training.epochs=2"), {"training.epochs": "9,120 rows", "data.filters": "yours"}, "mine")
    assert text.startswith("# mine\nmodel:\n  path: m\n")
    assert "\n  epochs: 2.0  # 9,120 rows\n" in text
    assert "\n  # yours\n  filters:\n    duplicates: null\n" in text
