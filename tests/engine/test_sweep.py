"""The points of a sweep and where they stand: pure."""

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import sweep, sweep_log
from engine.errors import SpecError
from engine.sweep import Axis, Range, axis, names, points, seeds
from engine.sweep_log import Standing, append, read, runs_of, standings

VALUES = st.lists(
    st.one_of(st.integers(0, 99), st.floats(1e-6, 1.0), st.sampled_from(["adamw_torch", "cosine", "a b"])),
    min_size=1,
    max_size=5,
)
AXES = st.lists(VALUES, min_size=1, max_size=3).map(
    lambda lists: [
        Axis(path, tuple(values))
        for path, values in zip(("training.learning_rate", "method.rank", "x.y"), lists, strict=False)
    ]
)


class TestAxis:
    @pytest.mark.parametrize(
        ("text", "values"),
        [
            ("1e-4,2e-4", (1e-4, 2e-4)),
            ("8, 16", (8, 16)),
            ("true,null", (True, None)),
            ("[q_proj,v_proj],all-linear", (["q_proj", "v_proj"], "all-linear")),
            ('"a,b",c', ("a,b", "c")),
            ("'8',8", ("8", 8)),
            ("7,", (7,)),
            ("{path: a, weight: 2}", ({"path": "a", "weight": 2},)),
            ("../a.jsonl,../b.jsonl", ("../a.jsonl", "../b.jsonl")),
        ],
    )
    def test_values_are_read_as_set_reads_them(self, text: str, values: tuple[Any, ...]) -> None:
        assert axis(f"a.b={text}") == Axis("a.b", values)

    @pytest.mark.parametrize(
        ("text", "range_"),
        [
            ("1e-5..1e-3", Range(1e-5, 1e-3, False)),
            ("4..64", Range(4, 64, True)),
            ("0..0.2", Range(0.0, 0.2, False)),
            ("-1..1", Range(-1, 1, True)),
        ],
    )
    def test_ranges(self, text: str, range_: Range) -> None:
        assert axis(f"a={text}") == Axis("a", (), range_)

    @pytest.mark.parametrize(
        ("item", "words"),
        [
            ("training.learning_rate", "path=values"),
            ("=1,2", "path=values"),
            ("SPEC.yaml", "stands before --over"),
            ("method.rank=", "no values"),
            ("method.rank=8,,16", "unreadable"),
            ("method.rank=[8", "unreadable"),
            ("a=" + "[" * 5000, "unreadable"),
            ("a=8..4", "does not go up"),
            ("a=4..4", "does not go up"),
            ("a=1e-5..1e-3,5", "stands alone"),
            ("run.name=a,b", "whose run"),
            ("a=!!python/object:x 1", ""),
            ("a=1], [2", "unreadable"),
            ("a=\x1b[31m[", "unreadable"),
        ],
    )
    def test_what_is_wrong_is_said(self, item: str, words: str) -> None:
        with pytest.raises(SpecError) as caught:
            axis(item)
        told = f"{caught.value.title} {caught.value.message} {caught.value.hint}"
        assert words in told
        assert "\x1b" not in told

    @given(st.text(max_size=30))
    def test_any_text_is_values_or_a_sentence(self, text: str) -> None:
        try:
            found = axis(f"a={text}")
        except SpecError:
            return
        assert found.values or found.range


class TestPoints:
    @given(AXES, st.lists(st.integers(0, 9), max_size=3, unique=True))
    def test_a_grid_is_every_combination_once_in_order(self, axes: list[Axis], chosen: list[int]) -> None:
        found = points(axes, chosen)
        every = list(itertools.product(*[one.values for one in axes], *[chosen] * bool(chosen)))
        unlike = {json.dumps([float(v) if isinstance(v, int) else v for v in one]) for one in every}
        assert len(found) == len(unlike)
        assert len({json.dumps([float(v) if isinstance(v, int) else v for _, v in p]) for p in found}) == len(found)
        assert tuple(value for _, value in found[0]) == every[0]
        paths = [one.path for one in axes] + ["training.seed"] * bool(chosen)
        assert all([path for path, _ in point] == paths for point in found)

    @given(AXES, st.integers(1, 30), st.integers(0, 5))
    def test_drawn_points_are_of_the_grid_and_none_twice(self, axes: list[Axis], count: int, dice: int) -> None:
        found, grid = points(axes, (), count, dice), points(axes)
        assert len(found) == min(count, len(grid))
        keys = [sweep._key(one) for one in found]
        assert len(set(keys)) == len(keys)
        assert set(keys) <= {sweep._key(one) for one in grid}
        assert points(axes, (), count, dice) == found

    def test_of_a_range_every_order_of_magnitude_is_as_likely(self) -> None:
        found = [one[0][1] for one in points([axis("a=1e-6..1e-2")], (), 400)]
        assert all(1e-6 <= one <= 1e-2 for one in found)
        each = [sum(10.0**e <= one < 10.0 ** (e + 1) for one in found) for e in (-6, -5, -4, -3)]
        assert min(each) > 60, each

    def test_a_range_from_zero_and_whole_numbers_are_drawn_evenly(self) -> None:
        dice = random.Random(1)
        even = [Range(0.0, 1.0, False).draw(dice) for _ in range(400)]
        assert 0.4 < sum(even) / 400 < 0.6
        whole = [Range(1, 4, True).draw(dice) for _ in range(400)]
        assert set(whole) == {1, 2, 3, 4}
        assert all(isinstance(one, int) for one in whole)

    @given(st.floats(1e-9, 1e6), st.floats(1.001, 1e6), st.integers(0, 99))
    def test_what_is_drawn_lies_in_its_range(self, low: float, factor: float, dice: int) -> None:
        range_ = Range(low, low * factor, False)
        assert range_.low <= range_.draw(random.Random(dice)) <= range_.high

    def test_a_small_range_of_whole_numbers_gives_no_more_than_it_has(self) -> None:
        assert {one[0][1] for one in points([axis("a=1..3")], (), 10)} == {1, 2, 3}

    def test_seeds_turn_fastest(self) -> None:
        found = points([axis("method.rank=8,16")], seeds("2"))
        assert [tuple(v for _, v in one) for one in found] == [(8, 1), (8, 2), (16, 1), (16, 2)]

    def test_the_same_value_written_otherwise_is_one_point(self) -> None:
        assert len(points([axis("a=1e-4,0.0001,1.0e-4")])) == 1
        assert len(points([axis("a=1,1.0,true,'1'")])) == 3

    @pytest.mark.parametrize(
        ("items", "more", "words"),
        [
            (["a=1,2", "a=3"], {}, "more than once"),
            (["training.seed=1,2"], {"seeds": [1]}, "Give the seeds once"),
            (["a=1..9"], {}, "--random"),
            (["a=" + ",".join(map(str, range(100))), "b=" + ",".join(map(str, range(100)))], {}, "10,000 runs"),
            (["a=1..9"], {"count": 501}, "501 runs"),
            (["a=1..9"], {"count": 300, "seeds": [1, 2]}, "600 runs"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_said(self, items: list[str], more: dict[str, Any], words: str) -> None:
        with pytest.raises(SpecError) as caught:
            points([axis(one) for one in items], **more)
        assert words in f"{caught.value.title} {caught.value.message} {caught.value.hint}"

    def test_a_billion_points_are_refused_without_being_made(self) -> None:
        many = [Axis(f"a.{i}", tuple(range(100))) for i in range(20)]
        with pytest.raises(SpecError, match="at most 500"):
            points(many)
        assert len(points(many, (), 3)) == 3


class TestSeeds:
    def test_a_number_or_a_list(self) -> None:
        assert (seeds("3"), seeds("1,5,1"), seeds("0,"), seeds(" 2 ")) == ([1, 2, 3], [1, 5], [0], [1, 2])

    @pytest.mark.parametrize("text", ["0", "", ",", "-1", "a", "1.5", "1,x", "501", "9" * 20])
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(SpecError):
            seeds(text)


class TestNames:
    def test_readable(self) -> None:
        made = points([axis("training.learning_rate=1e-4,2e-4"), axis("method.rank=8,16")], seeds("2"))
        assert names("support", made)[5] == "support-lr2e-4-r8-s2"

    def test_what_all_have_in_common_is_left_out(self) -> None:
        made = points([axis("method.rank=8"), axis("training.learning_rate=0.001,2e-3")])
        assert names("x", made) == ["x-lr1e-3", "x-lr2e-3"]
        assert names("x", points([axis("method.rank=8")])) == ["x"]

    def test_texts_lists_and_paths(self) -> None:
        made = points([axis("data.path=/a/one.jsonl,/b/two.jsonl"), axis("method.targets=[q_proj,v_proj],all-linear")])
        assert names("x", made)[:2] == ["x-one-q_proj-v_proj", "x-one-all-linear"]
        assert names("x", points([axis("training.optimizer=adamw_torch,adamw_8bit")]))[1] == "x-adamw_8bit"

    @given(AXES, st.text(max_size=60))
    def test_short_printable_and_no_two_alike(self, axes: list[Axis], base: str) -> None:
        made = points(axes)
        found = names(base, made)
        assert len(set(found)) == len(found) == len(made)
        assert all(len(one) <= 80 for one in found)

    def test_long_values_stay_apart(self) -> None:
        made = points([Axis("data.system", tuple("very " * 20 + str(i) for i in range(3)))])
        assert len(set(names("a" * 60, made))) == 3


def test_how_many_were_asked_for() -> None:
    axes = [axis("a=1,1.0,2"), axis("b=3,4")]
    assert (sweep.asked_for(axes, [1, 2], None), len(points(axes, [1, 2]))) == (12, 8)
    assert sweep.asked_for(axes, [], 5) == 5


def row(status: str = "finished", ended_at: float | None = 5.0) -> dict[str, Any]:
    return {"status": status, "ended_at": ended_at}


BEGUN, MADE = {"point": 1, "event": "begun", "run": "r1"}, {"point": 1, "event": "made", "run": "r1"}
AGAIN = {"point": 1, "event": "again", "ended_at": 5.0}
REFUSED = {"point": 1, "event": "refused", "text": "no"}


class TestStandings:
    @pytest.mark.parametrize(
        ("entries", "runs", "state"),
        [
            ([], {}, "waiting"),
            ([BEGUN], {}, "waiting"),  # killed before the row was written
            ([BEGUN], {"r1": row("queued", None)}, "active"),  # killed after it
            ([BEGUN, MADE], {"r1": row("running", None)}, "active"),
            ([BEGUN, MADE], {"r1": row()}, "ended"),
            ([BEGUN, MADE], {}, "gone"),
            ([REFUSED], {}, "refused"),
            ([REFUSED, {"point": 1, "event": "again", "ended_at": None}], {}, "waiting"),
            ([BEGUN, MADE, AGAIN], {"r1": row("failed")}, "waiting"),
            ([BEGUN, MADE, AGAIN], {"r1": row("running", None)}, "active"),
            ([BEGUN, MADE, AGAIN], {"r1": row("finished", 9.0)}, "ended"),  # it was resumed and has ended
            ([BEGUN, MADE, AGAIN, REFUSED], {"r1": row("failed")}, "refused"),
            (
                [BEGUN, {"point": 1, "event": "begun", "run": "r2"}, {"point": 1, "event": "made"}],
                {"r2": row()},
                "ended",
            ),
            ([{"point": 7, "event": "made"}, {"nonsense": 1}, {"point": "x"}], {}, "waiting"),
        ],
    )
    def test_what_follows_from_the_log(self, entries: list[dict[str, Any]], runs: dict[str, Any], state: str) -> None:
        assert standings(1, entries, runs)[0].state == state

    @given(
        st.lists(st.sampled_from([BEGUN, MADE, AGAIN, REFUSED]), max_size=6),
        st.sampled_from([None, row(), row("running", None)]),
    )
    def test_a_point_that_has_a_run_never_gets_a_second(
        self, entries: list[dict[str, Any]], run: dict[str, Any] | None
    ) -> None:
        """Whatever the log says: where its last run is in the database, that one is resumed and none is made."""
        runs = {"r1": run} if run else {}
        [found] = standings(1, entries, runs)
        if BEGUN in entries and run:
            assert found.run == "r1"

    def test_tries_are_those_of_the_controller(self) -> None:
        mine = {"point": 1, "event": "again", "by": "controller", "ended_at": 5.0}
        assert standings(1, [BEGUN, MADE, mine, AGAIN, mine], {"r1": row("crashed")})[0].tries == 2

    def test_counted(self) -> None:
        found = [Standing(1, "a", "ended", "finished"), Standing(2, "b", "ended", "failed"), Standing(3)]
        assert sweep_log.counts(found) == {"finished": 1, "failed": 1, "waiting": 1}


class TestLog:
    def test_a_half_line_and_nonsense_are_passed_over(self, tmp_path: Path) -> None:
        append(tmp_path, point=1, event="begun", run="a")
        with (tmp_path / sweep_log.LOG).open("ab") as file:
            file.write(b'[1]\nnonsense\n{"point": 1, "eve')
        append(tmp_path, point=1, event="made")
        assert [entry["event"] for entry in read(tmp_path)] == ["begun", "made"]
        assert runs_of(read(tmp_path)) == ["a"]

    def test_without_a_file_nothing_happened(self, tmp_path: Path) -> None:
        assert list(read(tmp_path)) == []


def test_numbers_are_rounded_to_what_a_name_can_hold() -> None:
    drawn = Range(1e-5, 1e-3, False).draw(random.Random(3))
    assert math.isclose(drawn, float(f"{drawn:.3g}"))
