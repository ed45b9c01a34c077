"""Which run comes from which: a real database, real events, no processes."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import cli_lineage, lineage, short
from engine.errors import RunError
from engine.events import Attempt, Exit
from engine.files import EventFile
from engine.ingest import ingest
from engine.lineage import Change, Node, below, lines, root_of
from engine.spec import apply_sets, parse
from engine.store import metrics, runs, sweeps
from engine.store.connection import Connection, open_database

Make = Callable[..., str]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Connection]:
    made = open_database(tmp_path / "experiments.db")
    yield made
    made.close()


@pytest.fixture
def make(db: Connection) -> Make:
    """A run with an id, settings and perhaps a parent and a sweep; each a second later than the one before."""

    def made(run_id: str, *sets: str, parent: str | None = None, sweep: str | None = None, **fields: Any) -> str:
        raw = {"model": {"path": "/m"}, "data": {"path": "/d.jsonl"}, "method": {"kind": "lora", "rank": 8},
               "training": {"learning_rate": 2e-4, "micro_batch": 4}, "run": {"name": f"run-{run_id}", "parent": parent}}  # fmt: skip
        runs.insert(db, run_id, parse(apply_sets(raw, list(sets))), {}, "here", made.now)  # type: ignore[attr-defined]
        made.now += 1  # type: ignore[attr-defined]
        runs.set_fields(db, run_id, status="finished", sweep_id=sweep, **fields)
        return run_id

    made.now = 1000.0  # type: ignore[attr-defined]
    return made


def shape(node: Node) -> Any:
    """`{"a": [{"b": []}]}`."""
    return {node.id: [shape(child) for child in node.children]}


def by_id(root: Node) -> dict[str, Node]:
    return {node.id: node for node in root.walk()}


class TestTree:
    def test_forks_of_forks_with_what_changed(self, db: Connection, make: Make) -> None:
        make("a")
        make("b", "method.rank=16", parent="a")
        make("c", "method.rank=16", "training.learning_rate=1e-4", parent="b")
        make("d", parent="a")
        make("other")
        for one in "abcd":
            root = lineage.tree(db, one)
            assert shape(root) == {"a": [{"b": [{"c": []}]}, {"d": []}]}
        found = by_id(root)
        assert found["a"].text == ""
        assert found["b"].text == "rank 8 → 16"
        assert found["c"].text == "lr 2e-4 → 1e-4"
        assert found["d"].text == "nothing changed"
        assert shape(lineage.tree(db, "other")) == {"other": []}

    def test_a_sweep_s_points_say_what_it_set(self, db: Connection, make: Make) -> None:
        plan = {"over": {"training.learning_rate": [1e-4, 2e-4], "method.rank": [4]}, "points": []}
        sweeps.insert(db, "s", "rank x lr", plan, "here", 1.0)
        make("a", "training.learning_rate=1e-4", "method.rank=4", sweep="s")
        make("b", "method.rank=4", sweep="s")
        make("c", "method.rank=64", parent="b")
        root = lineage.tree(db, "c")
        assert (root.kind, root.name, root.status) == ("sweep", "rank x lr", "running")
        assert shape(root) == {"s": [{"a": []}, {"b": [{"c": []}]}]}
        found = by_id(root)
        assert [found[one].text for one in "abc"] == ["lr 1e-4, rank 4", "lr 2e-4, rank 4", "rank 4 → 64"]

    def test_a_sweep_that_is_not_known_shows_what_its_points_differ_in(self, db: Connection, make: Make) -> None:
        make("a", "method.rank=4", sweep="s")
        make("b", sweep="s")
        root = lineage.tree(db, "a")
        assert (root.kind, root.name, root.status) == ("sweep", "sweep s", "")
        assert [child.text for child in root.children] == ["rank 4", "rank 8"]

    def test_a_parent_that_is_gone_still_holds_its_children_together(self, db: Connection, make: Make) -> None:
        make("b", "method.rank=16", parent="purged")
        make("c", parent="purged")
        root = lineage.tree(db, "c")
        assert shape(root) == {"purged": [{"b": []}, {"c": []}]}
        assert (root.kind, root.name) == ("gone", "purged")
        assert root.children[0].text == "", "against what is not known"

    def test_the_bin_and_stars_are_shown(self, db: Connection, make: Make) -> None:
        make("a", deleted_at=5.0, starred=1)
        make("b", parent="a")
        root = lineage.tree(db, "b")
        assert (root.in_bin, root.starred, root.children[0].in_bin) == (True, True, False)

    @pytest.mark.parametrize("around", [["a"], ["a", "b"], ["a", "b", "c"]])
    def test_a_circle_of_parents_has_an_end(self, db: Connection, make: Make, around: list[str]) -> None:
        for i, one in enumerate(around):
            make(one, parent=around[i - 1])
        make("below", parent="a")
        for one in [*around, "below"]:
            root = lineage.tree(db, one)
            assert sorted(by_id(root)) == sorted([*around, "below"])

    def test_a_run_that_is_not_there(self, db: Connection) -> None:
        with pytest.raises(RunError):
            lineage.tree(db, "nobody")

    def test_a_thousand_forks_of_each_other(self, db: Connection, make: Make) -> None:
        db.execute("BEGIN")
        for i in range(1200):
            make(str(i), parent=str(i - 1) if i else None)
        db.execute("COMMIT")
        root = lineage.tree(db, "700")
        assert root.id == "0"
        assert len(lines(root)) == 1200
        assert "run-1199" in cli_lineage.drawn(root, "700")
        assert len(lines(lineage.of(db, ["3", "1000"])[0])) == 998

    def test_the_best_eval_loss_and_the_time(self, db: Connection, make: Make) -> None:
        make("a", started_at=10.0, ended_at=70.0)
        metrics.add(db, "a", "eval_loss", [(1, 1, 11.0, 2.0), (2, 1, 12.0, 1.5), (3, 1, 13.0, 1.7)])
        root = lineage.tree(db, "a")
        assert (root.eval_loss, root.seconds) == (1.5, 60.0)


class TestAttempts:
    def test_resumes_say_from_where_and_what_changed(self, db: Connection, make: Make, tmp_path: Path) -> None:
        make("a")
        half = {"training.micro_batch": 2, "training.accumulation": 8}
        with_events(
            db,
            tmp_path,
            ("", {}, "oom"),
            ("/runs/a/checkpoints/checkpoint-120", half, "crashed"),
            ("", half, "finished"),
        )
        found = lineage.tree(db, "a").attempts
        assert [one.text for one in found] == [
            "attempt 1 from the beginning",
            "attempt 2 from checkpoint-120: micro_batch 4 → 2, accumulation – → 8",
            "attempt 3 from the beginning",
        ]
        assert [one.ended for one in found] == ["oom", "crashed", "finished"]

    def test_a_run_that_was_started_once_has_none_to_show(self, db: Connection, make: Make, tmp_path: Path) -> None:
        make("a")
        with_events(db, tmp_path, ("", {}, "finished"))
        root = lineage.tree(db, "a")
        assert root.attempts == ()
        assert len(lines(root)) == 1


def with_events(db: Connection, place: Path, *attempts: tuple[str, dict[str, int], str]) -> None:
    """The run `a` with these attempts: checkpoint, overrides, how it ended."""
    for number, (checkpoint, overrides, status) in enumerate(attempts, 1):
        log = EventFile(place / "supervisor.jsonl", number)
        log.append(Attempt(100 + number, time.time(), checkpoint, overrides, [], 0))
        log.append(Exit(status, "it ended"))  # type: ignore[arg-type]
        log.close()
    ingest(db, "a", place)


class TestOf:
    def test_only_those_asked_for_and_what_connects_them(self, db: Connection, make: Make) -> None:
        make("a")
        make("b", "method.rank=16", parent="a")
        make("c", parent="b")
        make("d", parent="b")
        make("e", parent="d")
        make("alone")
        assert [shape(one) for one in lineage.of(db, ["c", "e"])] == [{"b": [{"c": []}, {"d": [{"e": []}]}]}]
        assert [shape(one) for one in lineage.of(db, ["e", "alone"])] == [{"e": []}, {"alone": []}]
        assert [shape(one) for one in lineage.of(db, ["a", "b"])] == [{"a": [{"b": []}]}]
        assert lineage.of(db, ["b"])[0].changes == (), "its parent is not shown"

    def test_points_of_one_sweep(self, db: Connection, make: Make) -> None:
        sweeps.insert(db, "s", "x", {"over": {"method.rank": [4, 8]}, "points": []}, "here", 1.0)
        for one in "abc":
            make(one, sweep="s")
        [found] = lineage.of(db, ["a", "c"])
        assert shape(found) == {"s": [{"a": []}, {"c": []}]}

    def test_nothing_of_nothing(self, db: Connection) -> None:
        assert lineage.of(db, []) == ()

    def test_runs_that_are_gone_stand_alone(self, db: Connection) -> None:
        assert [one.kind for one in lineage.of(db, ["x"])] == ["gone"]


LINKS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([None, *"abcdefghz"]), st.sampled_from([None, "s", "t"])),
    max_size=8, unique_by=lambda link: link[0],
).map(lambda found: [link for link in found if link[1] or link[2]])  # fmt: skip


class TestLinks:
    @given(LINKS, st.sampled_from("abcdefgh"))
    def test_every_family_has_a_root_and_each_member_once(self, links: list[lineage.Link], one: str) -> None:
        root = root_of(one, links)
        found = below(root, links)
        children = [child for some in found.values() for child in some]
        assert len(set(children)) == len(children)
        assert root not in children
        assert one in found
        assert all(root_of(other, links) in found for other in found if not other.startswith(lineage.SWEEP))


class TestDrawn:
    def test_branches(self, db: Connection, make: Make, tmp_path: Path) -> None:
        make("a")
        with_events(db, tmp_path, ("", {}, "crashed"), ("/x/checkpoint-5", {}, "finished"))
        make("b", "method.rank=16", parent="a")
        make("c", parent="b")
        make("d", parent="a", deleted_at=1.0)
        text = cli_lineage.drawn(lineage.tree(db, "a"), "c")
        assert text.split("\n") == [
            "  ✓ run-a   finished",
            "  ├ attempt 2 from checkpoint-5  finished",
            "  ├ ✓ run-b   finished   rank 8 → 16",
            "▸ │ └ ✓ run-c   finished   rank 16 → 8",
            "  └ ✓ run-d   finished, in the bin   nothing changed",
        ]

    def test_names_are_cleaned(self, db: Connection, make: Make) -> None:
        make("a")
        runs.set_fields(db, "a", name="\x1b[31mred\nname")
        make("b", 'data.system="\\x1b]0;x\\x07odd"', parent="a")
        text = cli_lineage.drawn(lineage.tree(db, "b"))
        assert "\x1b" not in text
        assert "\x07" not in text
        assert len(text.split("\n")) == 2

    def test_as_json(self, db: Connection, make: Make) -> None:
        make("a")
        make("b", "method.rank=16", parent="a")
        found = cli_lineage.as_json(lineage.tree(db, "b"))
        assert found["id"] == "a"
        assert found["children"][0]["changes"] == {"method.rank": {"before": 8, "after": 16}}


class TestShort:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (2e-4, "2e-4"), (1e-3, "1e-3"), (0.05, "0.05"), (16.0, "16"), (True, "true"), (None, "–"), ("", "–"), (float("inf"), "inf"),
            ("/a/b/rows.jsonl", "rows.jsonl"), ("meta-llama/Llama", "meta-llama/Llama"), (["q_proj", "v_proj"], '["q_proj", "v_proj"]'),
            ("x" * 90, "x" * 39 + "…"), ("/", "/"),
        ],
    )  # fmt: skip
    def test_values(self, value: Any, text: str) -> None:
        assert short.value(value) == text

    def test_fields(self) -> None:
        fields = ("training.learning_rate", "method.rank", "evaluation.every", "method.quantization.bits", "objective")
        assert [short.field(one) for one in fields] == [
            "lr",
            "rank",
            "evaluation.every",
            "quantization.bits",
            "objective",
        ]

    def test_a_change(self) -> None:
        assert Change("method.rank", 8, 16).text == "rank 8 → 16"
        assert Change("method.rank", None, 16, only_after=True).text == "rank 16"
