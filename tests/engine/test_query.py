"""Runs by a filter and in an order: what SQL finds is what Python says of the same values, at any size by way of indexes."""

import math
import re
import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import filtering
from engine.errors import RunError
from engine.filtering import Either, Every, Expression, FilterError, Not, Term, Word, written
from engine.store import fields, query
from engine.store.connection import transaction
from tests.engine.stored import NOW, add, database

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("query") / "experiments.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    connection = database(path)
    yield connection
    connection.close()


def three(db: sqlite3.Connection) -> None:
    """`old` diverged, `mid` is good, `new` is the newest and still runs."""
    add(db, "old", {"training.learning_rate": 2e-3, "method.rank": 8, "training.packing": False, "model.path": "/m/a"},
        {"eval_loss": {"step": 9, "last": "nan", "best": 2.9, "min": 2.9, "max": 3.5, "smoothed": 3.2}},
        name="Support ÜBER", created_at=NOW - 200, started_at=NOW - 190, ended_at=NOW - 100, status="failed",
        tags=["keep", "two words"], note="debug\nit", exit_reason="CUDA out of memory", starred=1)  # fmt: skip
    add(db, "mid", {"training.learning_rate": 2e-4, "method.rank": 16, "training.packing": True, "data.path": "/d/b"},
        {"eval_loss": {"step": 9, "last": 1.2, "best": 1.1, "min": 1.1, "max": 2.0, "smoothed": 1.3}, "odd.key": 5},
        name="mid-run", model="Qwen2.5-7B", created_at=NOW - 100, started_at=NOW - 90, ended_at=NOW - 80,
        tags=["Keep"], parent_id="old", dataset=None)  # fmt: skip
    add(db, "new", {"training.learning_rate": "none", "method.rank": 128}, status="running", created_at=NOW,
        source="trackio", tags=["größer"], plan='{"data": {"rows": 9000}}')  # fmt: skip


FOUND = {
    "": "new mid old", "status:finished": "mid", "status:FAILED,finished": "mid old", "status!=failed": "new mid",
    "lr<1e-3": "mid", "lr>=2e-4": "mid old", "lr:2e-4": "mid", "training.learning_rate=0.0002": "mid", "lr!=2e-4": "new old",
    "rank>9": "new mid", "rank<100": "mid old", "rank:8,128": "new old", "method.rank~1": "new mid",
    "tag:keep": "mid old", "tag:none": "", "tag~wor": "old", 'tag:"two words"': "old", "tag!=keep": "new", "tag:GRÖSSER": "new",
    "-tag:keep": "new", "model~qwen": "mid", "model!~qwen": "new old", "name:mid-run": "mid", "name~über": "old",
    "eval_loss<9": "mid", "eval_loss.best<9": "mid old", "eval_loss.smooth<2": "mid", "eval_loss.step:9": "mid old",
    "eval_loss:nan": "old", "eval_loss!=1.2": "old", "best_eval>2": "old", "eval_loss:none": "new", "eval_loss!=none": "mid old",
    "-eval_loss<9": "new old", "has:eval_loss": "mid old", "-has:eval_loss": "new", "has:note": "old", "note:none": "new mid",
    "note~DEBUG": "old", "-note:debug": "new mid old", "note!~debug": "new mid", "data:none": "mid", "has:data": "new old",
    "odd.key:5": "mid", "odd.key.last>4": "mid", "training.packing:true": "mid", "training.packing!=true": "old",
    "is:starred": "old", "starred:yes": "old", "starred:no": "new mid", "is:active": "new", "is:ended": "mid old",
    "is:imported": "new", "is:fork": "mid", "is:running,failed": "new old", "-is:starred": "new mid", "is!=starred": "new mid",
    "parent:old": "mid", 'parent:"support über"': "mid", "source:trackio": "new", "reason~memory": "old", "rows>8k": "new",
    "time<30s": "mid", "time>=90s": "old", "created:none": "", "support": "old", "SUPPORT über": "old", "qwen": "mid",
    "two": "old", "größ": "new", "failed": "old", "rows.jsonl": "new old", "debug it": "old", "nothing": "", '"two words"': "old",
    "qwen OR support": "mid old", "(qwen OR support) tag:keep -is:starred": "mid", "id:old": "old", "Status:finished": "mid",
    "text:memory": "old", 'text:"out of mem"': "old", "text:größ": "new", "-text:memory": "new mid", "text!~memory": "new mid",
}  # fmt: skip


@pytest.mark.parametrize("text", FOUND)
def test_what_a_filter_finds(db: sqlite3.Connection, text: str) -> None:
    three(db)
    assert query.select(db, text) == FOUND[text].split()


@pytest.mark.parametrize(
    ("text", "column", "said", "hint"),
    [
        ("a eval_los<2", 3, "No run here has 'eval_los'", "eval_loss"),
        ("has:eval_los", 5, "No run here has 'eval_los'", "eval_loss"),
        ("http://x", 1, "No run here has 'http'", "quotes"),
        ("lr<abc", 4, "'abc' is no number", "1e-3"),
        ("eval_loss:abc", 11, "'abc' is no number", ""),
        ("name<b", 6, "name is a text", "name~b"),
        ("time<30", 6, "no length of time", "30m"),
        ("created>2d", 9, "no date", "age<2d"),
        ("created~2", 9, "created is no text", ""),
        ("starred:maybe", 9, "yes or no", "is:starred"),
        ("is:stared", 4, "never 'stared'", "starred"),
        ("status:finish", 8, "never 'finish'", "finished"),
        ("is<3", 1, "is takes no <", ""),
        ('text:"*"', 6, "no word to look for", ""),
        ("path:x", 1, "data.path and model.path", "in full"),
    ],
)
def test_a_mistake_says_where_and_what_to_do(
    db: sqlite3.Connection, text: str, column: int, said: str, hint: str
) -> None:
    three(db)
    with pytest.raises(FilterError, match=re.escape(said)) as raised:
        query.select(db, text)
    assert raised.value.column == column
    assert hint in raised.value.hint


def test_an_order_has_the_unknown_last_both_ways(db: sqlite3.Connection) -> None:
    three(db)
    assert query.select(db, order="eval_loss.best") == ["mid", "old", "new"]
    assert query.select(db, order="-eval_loss.best") == ["old", "mid", "new"]
    assert query.select(db, order="eval_loss") == ["mid", "new", "old"]  # nan is no number: beside the unknown
    assert query.select(db, order="rank") == ["old", "mid", "new"]  # 128 is more than 16
    assert query.select(db, order="-lr") == ["old", "mid", "new"]  # and a text is no number
    assert query.select(db, order="created") == ["old", "mid", "new"]
    assert query.select(db, order="name") == ["mid", "new", "old"]
    assert query.select(db, order="data") == ["new", "old", "mid"]
    assert query.select(db, order="-starred,created") == ["old", "mid", "new"]
    assert query.select(db, order="-time") == ["old", "mid", "new"]
    with pytest.raises(RunError, match="nowhere"):
        query.select(db, order="nowhere")


def test_the_archive_and_the_bin_are_left_out_unless_they_are_meant(db: sqlite3.Connection) -> None:
    for run_id, columns in (("here", {}), ("kept", {"archived": 1}), ("gone", {"deleted_at": NOW}),
                            ("both", {"archived": 1, "deleted_at": NOW})):  # fmt: skip
        add(db, run_id, **columns)
    assert query.select(db) == ["here"]
    assert query.select(db, archived=True) == ["kept", "here"]
    assert query.select(db, "is:archived") == ["kept"]
    assert query.select(db, "is:deleted") == ["gone", "both"]
    assert query.select(db, "is:deleted OR name~here") == ["here", "gone", "both"]
    assert query.select(db, deleted=True) == ["gone", "both"]
    assert query.select(db, "is:deleted", deleted=False) == []


def test_values_are_what_they_are(db: sqlite3.Connection) -> None:
    three(db)
    names = [
        "lr",
        "rank",
        "eval_loss",
        "eval_loss.step",
        "tag",
        "starred",
        "created",
        "time",
        "training.packing",
        "parent",
        "note",
    ]
    found = query.values(db, names)
    assert math.isnan(found["old"][2])
    assert found["old"][:2] + found["old"][3:] == (
        0.002, 8, 9, ("keep", "two words"), True, NOW - 200, 90.0, "false", None, "debug\nit")  # fmt: skip
    assert found["mid"] == (0.0002, 16, 1.2, 9, ("Keep",), False, NOW - 100, 10.0, "true", "Support ÜBER", None)
    assert found["new"][:6] == ("none", 128, None, None, ("größer",), False)
    assert query.values(db, ["name"], ["mid", "nobody"]) == {"mid": ("mid-run",)}
    assert query.values(db, [], []) == {}


def test_a_run_at_work_takes_longer_and_longer(db: sqlite3.Connection) -> None:
    add(db, "run", status="running", created_at=time.time() - 100, started_at=time.time() - 50)
    (took, age) = query.values(db, ["time", "age"])["run"]
    assert 50 <= took < 100 <= age
    assert query.select(db, "age<1h time<1h age>1m created:today,yesterday") == ["run"]
    today = datetime.now().strftime("%Y-%m-%d")
    assert query.select(db, f"created<{today}") + query.select(db, f"created>={today}") == ["run"]


def test_names_are_those_that_runs_have(db: sqlite3.Connection) -> None:
    three(db)
    names = fields.names(db)
    assert {"status", "lr", "eval_loss", "odd.key", "method.rank"} <= set(names)
    assert "training.seed" not in names
    assert len(names) == len(set(names))
    for name in names:
        assert fields.resolve(db, name).value  # every name means something


def test_in_an_empty_database_short_names_and_usual_metrics_are_known(db: sqlite3.Connection) -> None:
    assert query.select(db, "lr<1 rank:8 eval_loss<2 best_eval<2 peak_gib<9", "tok/s") == []


@SHARED
@given(words=st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_a_full_text_search_has_no_mistakes_but_ours(db: sqlite3.Connection, words: str) -> None:
    text = written(Term("text", ":", (words,)))
    if any(character.isalnum() for character in words):
        query.select(db, text)
    else:
        with pytest.raises(FilterError, match="no word to look for"):
            query.select(db, text)


def test_lists_are_read_by_their_keys(db: sqlite3.Connection) -> None:
    """No filter, order or value looks through all parameters or all metrics for one."""
    three(db)
    asked: list[str] = []
    db.set_trace_callback(asked.append)
    query.select(
        db, "lr<1e-3 eval_loss<2 rank:8 has:loss training.packing:true text:memory", "-eval_loss.best,rank,time"
    )
    query.values(db, ["lr", "rank", "loss", "eval_loss.best", "step", "parent", "sweep"], ["old", "mid"])
    fields.names(db)
    db.set_trace_callback(None)
    plans = [row[3] for sql in asked if sql.startswith("SELECT") for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert any(re.match(r"SEARCH latest USING PRIMARY KEY \(run_id=\? AND key=\?\)", plan) for plan in plans)
    assert any(re.match(r"SEARCH params USING PRIMARY KEY \(run_id=\? AND path=\?\)", plan) for plan in plans)
    assert not [plan for plan in plans if re.match(r"SCAN (latest|params|series|search_texts)", plan)]


# What a filter means, said once more in Python over the same values, for random runs and random filters.

Values = dict[str, Any]
WORDS = ["a", "B", "keep", "x y", "ß", "none", "10", "9", "nan", ""]
NUMBERS: list[Any] = [None, 0, 1, 9, 10, 2.5, -1, "nan", "inf"]
RUNS = st.lists(
    st.fixed_dictionaries({
        "name": st.sampled_from(WORDS), "model": st.sampled_from([*WORDS, None]), "note": st.sampled_from(WORDS),
        "tags": st.lists(st.sampled_from(WORDS[:5]), max_size=2), "starred": st.booleans(), "loss": st.sampled_from(NUMBERS),
        "rank": st.sampled_from([None, "10", "9", "2.5", "1e1", "a", "none", "true", "[]", "", "9x"]),
        "status": st.sampled_from(["finished", "failed"]),
    }), max_size=5)  # fmt: skip
SAYS = st.sampled_from(["a", "b", "keep", "x", "x y", "SS", "none", "10", "9", "2.5", "1e1", "nan", "true"])
FILTERS: st.SearchStrategy[Expression] = st.recursive(
    st.one_of(
        st.builds(Word, SAYS),
        st.builds(lambda n, o, v: Term(n, o, tuple(v)), st.sampled_from(["name", "model", "note", "tag", "p.rank"]),
                  st.sampled_from([":", "=", "!=", "~", "!~"]), st.lists(SAYS, min_size=1, max_size=2)),
        st.builds(lambda n, o, v: Term(n, o, (v,)), st.sampled_from(["loss", "p.rank", "loss.best"]),
                  st.sampled_from([":", "!=", "<", "<=", ">", ">="]), st.sampled_from(["9", "10", "2.5", "0"])),
        st.builds(lambda n, o: Term(n, o, (None,)), st.sampled_from(["loss", "model", "note", "tag", "p.rank"]),
                  st.sampled_from([":", "!="])),
        st.builds(lambda v: Term("has", ":", (v,)), st.sampled_from(["loss", "model", "note", "tag", "p.rank"])),
        st.builds(lambda v: Term("is", ":", (v,)), st.sampled_from(["starred", "failed", "ended"])),
    ),
    lambda inner: st.one_of(st.builds(Not, inner), st.builds(lambda a, b: Every((a, b)), inner, inner),
                            st.builds(lambda a, b: Either((a, b)), inner, inner)),
    max_leaves=6,
)  # fmt: skip


def says(run: Values, expression: Expression) -> bool:
    """What the filter language promises of one run."""
    match expression:
        case Word(text):
            shown = [
                run["name"],
                run["model"] or "",
                "lora",
                run["status"],
                "rows.jsonl",
                run["id"],
                run["note"],
                *run["tags"],
            ]
            return any(text.casefold() in one.casefold() for one in shown)
        case Not(part):
            return not says(run, part)
        case Every(parts):
            return all(says(run, part) for part in parts)
        case Either(parts):
            return any(says(run, part) for part in parts)
    name, operator, values = expression.name, expression.operator, expression.values
    if name == "has":
        return says(run, Term(str(values[0]), "!=", (None,)))
    if name == "is":
        return {"starred": run["starred"], "failed": run["status"] == "failed", "ended": True}[str(values[0])]
    known = {"tag": run["tags"], "p.rank": run["rank"], "loss.best": run["loss"]}.get(name, run.get(name))
    if values == (None,):
        return (known in (None, "", [], "[]")) == (operator == ":")
    if known is None:
        return False
    found = any(_one_says(known, operator.removeprefix("!"), str(value), name in NUMERIC) for value in values)
    return not found if operator.startswith("!") else found


NUMERIC = ("loss", "loss.best", "p.rank")


def _one_says(known: Any, operator: str, value: str, numeric: bool) -> bool:
    number = filtering.number(value)
    if operator in ("<", "<=", ">", ">="):
        mine = _number(known)
        if mine is None or number is None:
            return False
        return {"<": mine < number, "<=": mine <= number, ">": mine > number, ">=": mine >= number}[operator]
    texts = [one.casefold() for one in (known if isinstance(known, list) else [str(known)])]
    if operator == "~":
        return any(value.casefold() in one for one in texts)
    return value.casefold() in texts or (numeric and number is not None and _number(known) == number)


def _number(value: Any) -> float | None:
    """A number, or a text that is one in JSON."""
    if isinstance(value, str):
        return float(value) if re.fullmatch(r"-?\d+(\.\d+)?(e\d+)?", value) else None
    return float(value)


@SHARED
@given(found=RUNS, expression=FILTERS)
def test_sql_finds_what_python_finds(db: sqlite3.Connection, found: list[Values], expression: Expression) -> None:
    with transaction(db):
        for table in ("runs", "params", "series", "latest"):
            db.execute(f"DELETE FROM {table}")
        add(db, "aa", {"p.rank": "1"}, {"loss": 1.0}, deleted_at=NOW)  # so that the names are known
        for i, run in enumerate(found):
            run["id"] = f"id{i}"
            columns = {key: run[key] for key in ("name", "model", "note", "tags", "status")}
            params = {} if run["rank"] is None else {"p.rank": run["rank"]}
            latest = {} if run["loss"] is None else {"loss": {"step": 1, "last": run["loss"], "best": run["loss"]}}
            add(db, run["id"], params, latest, created_at=NOW - i, starred=int(run["starred"]), **columns)
    expected = [run["id"] for run in found if says(run, expression)]
    assert query.select(db, written(expression)) == expected, written(expression)
