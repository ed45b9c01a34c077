"""Which rows are trained on, which are held out, and why the others are left out."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.duplicates import SHORTEST, Exact, Near, fingerprint
from engine.data.formats import split_text
from engine.data.prepare import Dropped, Selection, chosen_rows, held_out, sample, select, times
from engine.data.quality import refuses
from engine.data.rows import Row, rows_of, sources
from engine.data.scan import scan
from engine.spec import DataSpec
from tests.engine.datafiles import CLEAN, Json, answer, question, rows, write


def spec(path: Path | list[tuple[Path, float]], **options: Any) -> DataSpec:
    named = str(path) if isinstance(path, Path) else [{"path": str(p), "weight": w} for p, w in path]
    return DataSpec.model_validate({"path": named} | options)


def selected(data: DataSpec, seed: int = 0) -> Selection:
    return select(sources(data), data, seed)


def said(*answers: str) -> list[Json]:
    """Rows with questions of their own."""
    return [{"instruction": question(i), "output": text} for i, text in enumerate(answers)]


def grouped(*sizes: int) -> list[Json]:
    """Rows in groups of these sizes, mixed."""
    groups = [name for name, size in zip("abcdefgh", sizes, strict=False) for _ in range(size)]
    random.Random(1).shuffle(groups)
    return [{**row, "topic": group} for row, group in zip(rows("alpaca", len(groups)), groups, strict=True)]


def topics(path: Path, data: DataSpec, numbers: Any) -> Counter[str]:
    usable = [row for row in rows_of(sources(data), data) if isinstance(row, Row)]
    return Counter(usable[number].group for number in numbers)


# filters

FILTERED: dict[str, tuple[Json, list[Json], dict[str, Dropped]]] = {
    "none": ({}, said("I must decline.", "x", "x") * 2, {}),
    "exact duplicates": ({"duplicates": "exact"}, [*rows("alpaca", 4), *rows("alpaca", 2, first=1), CLEAN["alpaca"](7)],
                         {"duplicate": Dropped(2, [5, 6])}),
    "case and white space": ({"duplicates": "exact"}, [*rows("text", 3), {"text": CLEAN["text"](2)["text"].upper().replace(" ", "\n ")}],
                             {"duplicate": Dropped(1, [4])}),
    "near duplicates": ({"duplicates": "near"},
                        [*rows("alpaca", 6), CLEAN["alpaca"](3), {**CLEAN["alpaca"](3), "output": answer(3).replace("notebook", "diary")}],
                        {"duplicate": Dropped(1, [7]), "near duplicate": Dropped(1, [8])}),
    "the same answer to others": ({"duplicates": "near"}, said("Yes.", "Yes.", "No."), {}),
    "refusals": ({"refusals": True}, said("I'm sorry, but I can't help with that.", "Gladly: four.", "I must decline. " + answer(3)),
                 {"refusal": Dropped(2, [1, 3])}),
    "at least": ({"min_characters": 5}, said("four", "fives", "sixsix"), {"answer shorter than 5 characters": Dropped(1, [1])}),
    "at most": ({"max_characters": 5}, said("four", "fives", "sixsix"), {"answer longer than 5 characters": Dropped(1, [3])}),
    "patterns": ({"exclude": ["(?i)OTTER", r"\d{7}"]}, said("An otter.", "A lynx.", "Number 1234567.", "Otter 1234567"),
                 {"matches (?i)OTTER": Dropped(3, [1, 2, 4]), "matches \\d{7}": Dropped(1, [3])}),
    "several at once": ({"refusals": True, "min_characters": 3, "duplicates": "exact"},
                        [*said("ok", "I must decline.", "Three."), *said("-", "--", "Three.")],
                        {"answer shorter than 3 characters": Dropped(3, [1, 4, 5]), "refusal": Dropped(1, [2]), "duplicate": Dropped(1, [6])}),
}  # fmt: skip
FILTERED["patterns"][1][0]["instruction"] = "The otter?"
FILTERED["patterns"][1][1]["instruction"] = "An OTTER, or what?"
for number in (2, 3):
    FILTERED["patterns"][1][number]["instruction"] = f"Which {number}?"


@pytest.mark.parametrize("name", FILTERED)
def test_a_filter_leaves_rows_out_by_reason_and_line(name: str, tmp_path: Path) -> None:
    filters, rows_, dropped = FILTERED[name]
    data = spec(write(tmp_path, "a.jsonl", rows_), filters=filters)
    found = selected(data)
    assert found.dropped == dropped
    gone = {line for one in dropped.values() for line in one.lines}
    assert [number + 1 for number in found.train] == [line for line in range(1, len(rows_) + 1) if line not in gone]
    assert found.held_out == frozenset()
    report = scan(data)  # says before training what training will do
    assert report.dropped == dropped
    assert report.kept == len(found.train)


def test_rows_that_cannot_be_used_are_named_too(tmp_path: Path) -> None:
    good = rows("alpaca", 3)
    path = write(
        tmp_path, "a.jsonl", [good[0], "{x}", {"instruction": "x", "output": ""}, good[1], {"text": "x"}, good[2]]
    )
    found = selected(spec(path))
    assert found.dropped == {
        "unparsable": Dropped(1, [2]),
        "empty_field": Dropped(1, [3]),
        "mixed_formats": Dropped(1, [5]),
    }
    assert found.train == (0, 1, 2)  # counted among the usable rows
    lines = [(row.line, often) for row, often in chosen_rows(sources(spec(path)), spec(path), found)]
    assert lines == [(1, 1), (4, 1), (6, 1)]


def test_lines_are_bounded(tmp_path: Path) -> None:
    found = selected(spec(write(tmp_path, "a.jsonl", said(*["x"] * 50, "long enough")), filters={"min_characters": 2}))
    assert found.dropped == {"answer shorter than 2 characters": Dropped(50, [*range(1, 21)])}


def test_a_pair_is_the_same_only_with_both_answers(tmp_path: Path) -> None:
    pair = CLEAN["preference"](3)
    other = {**pair, "rejected": "This one is quite different, " + " ".join(f"word{n}" for n in range(60))}
    path = write(tmp_path, "a.jsonl", [pair, other, pair])
    for how in ("exact", "near"):
        assert selected(spec(path, filters={"duplicates": how})).dropped == {"duplicate": Dropped(1, [3])}


def test_a_label_makes_a_difference(tmp_path: Path) -> None:
    row = CLEAN["kto"](3)
    path = write(tmp_path, "a.jsonl", [row, {**row, "label": not row["label"]}, row])
    assert selected(spec(path, filters={"duplicates": "exact"})).dropped == {"duplicate": Dropped(1, [3])}


def test_leaks_are_left_out_exactly_and_nearly(tmp_path: Path) -> None:
    held = [CLEAN["alpaca"](2), {**CLEAN["alpaca"](4), "output": answer(4).replace("notebook", "diary")}]
    validation = str(write(tmp_path, "held.jsonl", [*held, *rows("alpaca", 2, first=50)]))
    path = write(tmp_path, "a.jsonl", rows("alpaca", 8))
    assert selected(spec(path, validation=validation)).dropped == {}
    data = spec(path, validation=validation, filters={"leaks": True})
    found = selected(data)
    assert found.dropped == {"is a validation row": Dropped(2, [3, 5])}
    assert found.train == (0, 1, 3, 5, 6, 7)
    assert found.held_out == frozenset()
    assert scan(data).dropped == found.dropped


def test_fingerprints_know_case_and_white_space_only() -> None:
    assert fingerprint("Two  Words\n") == fingerprint(" two words")
    assert fingerprint("STRASSE") == fingerprint("Straße")
    assert fingerprint("two words") != fingerprint("two word")
    assert fingerprint("\ud800") == fingerprint("?")
    exact = Exact()
    assert [exact.earlier(fingerprint(text), line) for line, text in enumerate(["a", "b", "A", "a"], 1)] == [
        None,
        None,
        1,
        1,
    ]
    assert exact.knows(fingerprint("b"))
    assert not exact.knows(fingerprint("c"))


def test_near_needs_words_enough_and_most_of_them() -> None:
    words = [f"word{n}" for n in range(100)]
    near = Near()
    assert near.earlier(" ".join(words), 1) is None
    assert near.earlier(" ".join([*words[:99], "other"]), 2) == 1
    assert near.earlier(" ".join([*words[:50], *(f"new{n}" for n in range(50))]), 3) is None
    short = " ".join(words[: SHORTEST - 1])
    assert (near.earlier(short, 4), near.earlier(short, 5)) == (None, None)
    assert near.earlier("UPPER " + " ".join(words).upper() + "!", 6) == 1
    assert near.earlier("the longest " * 300_000, 7) is None


def test_what_refuses() -> None:
    for text in (
        "I'm sorry, but I can't do that.",
        "I cannot assist with this",
        "I’m not able to say",
        "As an AI, I don't know.",
    ):
        assert refuses(text)
    for text in (
        "I'm sorry for your loss.",
        "You can't help it.",
        "I can't help but laugh.",
        "Sure. " * 60 + "I must decline.",
    ):
        assert not refuses(text)


# sample and split


def test_the_same_seed_selects_the_same_rows(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", rows("alpaca", 100))
    for options in ({"validation": 0.2}, {"max_rows": 30}, {"validation": 7, "max_rows": 50}):
        data = spec(path, **options)
        assert selected(data, 1) == selected(data, 1)
        assert selected(data, 1) != selected(data, 2)
    assert selected(spec(path), 1) == selected(spec(path), 2)


@pytest.mark.parametrize(
    ("validation", "held"),
    [(None, 0), (0, 0), (0.1, 10), (0.255, 26), (1, 1), (15, 15), (99, 99), (500, 99), (0.999, 99)],
)
def test_how_many_rows_are_held_out(validation: float | None, held: int, tmp_path: Path) -> None:
    found = selected(spec(write(tmp_path, "a.jsonl", rows("alpaca", 100)), validation=validation))
    assert (len(found.held_out), len(found.train)) == (held, 100 - held)
    assert set(found.train) | found.held_out == set(range(100))
    assert list(found.train) == sorted(found.train)
    assert found.dropped == {}


def test_one_row_is_never_held_out(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", rows("alpaca", 1))
    assert selected(spec(path, validation=0.5)) == Selection((0,), frozenset(), {})
    nothing = write(tmp_path, "b.jsonl", [{"instruction": "x", "output": ""}])
    assert selected(spec(nothing, validation=5)) == Selection((), frozenset(), {"empty_field": Dropped(1, [1])})


def test_a_sample_is_as_large_as_asked_and_from_everywhere(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", rows("alpaca", 200))
    found = selected(spec(path, max_rows=50))
    assert len(set(found.train)) == 50
    assert found.dropped == {"not in the sample": Dropped(150)}
    assert min(found.train) < 40
    assert max(found.train) >= 160
    assert selected(spec(path, max_rows=200)).dropped == {}
    assert len(selected(spec(path, max_rows=999)).train) == 200
    part = selected(spec(path, max_rows=50, validation=10))
    assert (len(part.train), len(part.held_out)) == (40, 10)
    assert scan(spec(path, max_rows=50)).kept == 50


def test_a_sample_is_taken_of_what_filters_leave(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", [*said("no", "no", "no"), *rows("alpaca", 10)])
    found = selected(spec(path, max_rows=8, filters={"min_characters": 3}))
    assert set(found.train) <= set(range(3, 13))
    assert found.dropped == {"answer shorter than 3 characters": Dropped(3, [1, 2, 3]), "not in the sample": Dropped(2)}


def test_a_stratified_split_holds_out_a_share_of_each(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", grouped(60, 30, 10))
    data = spec(path, validation=0.2, split="stratified", split_by="topic")
    found = selected(data, 3)
    assert topics(path, data, found.held_out) == {"a": 12, "b": 6, "c": 2}
    assert topics(path, data, found.train) == {"a": 48, "b": 24, "c": 8}
    assert selected(data, 3) == found
    assert selected(data, 4).held_out != found.held_out
    uneven = spec(path, validation=33, split="stratified", split_by="topic")
    shares = topics(path, uneven, selected(uneven).held_out)
    assert sum(shares.values()) == 33
    assert all(
        shares[name] in (int(0.33 * size), int(0.33 * size) + 1, int(0.33 * size) + 2)
        for name, size in zip("abc", (60, 30, 10), strict=True)
    )


def test_a_group_split_keeps_groups_together(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", grouped(10, 10, 10, 10, 10))
    data = spec(path, validation=0.2, split="group", split_by="topic")
    seen = set()
    for seed in range(8):
        found = selected(data, seed)
        held, train = topics(path, data, found.held_out), topics(path, data, found.train)
        assert not held.keys() & train.keys()
        assert list(held.values()) == [10]
        seen |= held.keys()
    assert len(seen) > 1


def test_groups_of_other_sizes_come_near_to_what_was_asked(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", grouped(80, 10, 5, 5))
    for count, wanted in ((5, {5}), (10, {10}), (15, {10, 15}), (1, {5}), (20, {20}), (13, {10, 15}), (70, {20})):
        data = spec(path, validation=count, split="group", split_by="topic")
        assert {len(selected(data, seed).held_out) for seed in range(6)} <= wanted, count


def test_one_group_is_trained_on(tmp_path: Path) -> None:
    data = spec(write(tmp_path, "a.jsonl", grouped(20)), validation=0.5, split="group", split_by="topic")
    assert len(selected(data).train) == 20


def test_groups_are_those_of_the_files_column(tmp_path: Path) -> None:
    rows_ = [{"q": question(i), "a": answer(i), "by": i % 2 or None} for i in range(10)]
    data = spec(
        write(tmp_path, "a.jsonl", rows_),
        columns={"instruction": "q", "output": "a"},
        validation=5,
        split="group",
        split_by="by",
    )
    assert [row.group for row in rows_of(sources(data), data) if isinstance(row, Row)] == ["None", "1"] * 5
    assert selected(data).held_out in ({0, 2, 4, 6, 8}, {1, 3, 5, 7, 9})


def test_the_system_prompt_and_columns_reach_the_rows(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", [{"q": "1+1?", "a": "2"}])
    data = spec(path, columns={"instruction": "q", "output": "a"}, system="Count")
    [(row, often)] = chosen_rows(sources(data), data, selected(data))
    assert often == 1
    assert [turn["content"] for turn in row.value["messages"]] == ["Count", "1+1?", "2"]


# weights


def test_weights_take_rows_more_or_less_often(tmp_path: Path) -> None:
    files = [
        write(tmp_path, f"{name}.jsonl", rows("alpaca", 40, first=first))
        for name, first in (("half", 0), ("more", 40), ("thrice", 80))
    ]
    data = spec([(files[0], 0.5), (files[1], 1.5), (files[2], 3)])
    found = selected(data, 5)
    often = Counter(found.train)
    assert {often[i] for i in range(40)} == {0, 1}
    assert 10 <= sum(often[i] for i in range(40)) <= 30
    assert {often[i] for i in range(40, 80)} == {1, 2}
    assert 50 <= sum(often[i] for i in range(40, 80)) <= 70
    assert {often[i] for i in range(80, 120)} == {3}
    spared = 40 - sum(often[i] for i in range(40))
    assert found.dropped == {"left out by the weight of its file": Dropped(spared)}
    assert selected(data, 5) == found
    assert selected(data, 6).train != found.train
    chosen = list(chosen_rows(sources(data), data, found))
    assert [times_ for _, times_ in chosen] == [often[i] for i in range(120) if often[i]]
    assert Counter(row.source for row, _ in chosen) == {0: 40 - spared, 1: 40, 2: 40}


def test_held_out_rows_are_not_repeated(tmp_path: Path) -> None:
    file = write(tmp_path, "a.jsonl", rows("alpaca", 20))
    data = spec([(file, 3)], validation=5)
    found = selected(data)
    assert (len(found.held_out), len(found.train)) == (5, 45)
    assert Counter(times_ for _, times_ in chosen_rows(sources(data), data, found)) == {3: 15, 0: 5}


def test_sources_of_several_formats(tmp_path: Path) -> None:
    files = [
        write(tmp_path, f"{form}.jsonl", rows(form, 5, first=10 * i))
        for i, form in enumerate(("alpaca", "sharegpt", "messages"))
    ]
    data = spec([(file, 1) for file in files])
    chosen = list(chosen_rows(sources(data), data, selected(data)))
    assert [(row.source, row.line) for row, _ in chosen] == [(i, line) for i in range(3) for line in range(1, 6)]
    assert all("messages" in row.value for row, _ in chosen)


def test_a_row_in_two_files_is_a_duplicate(tmp_path: Path) -> None:
    files = [write(tmp_path, f"{name}.jsonl", rows("alpaca", 3, first=first)) for name, first in (("a", 0), ("b", 2))]
    data = spec([(file, 1) for file in files], filters={"duplicates": "exact"})
    assert selected(data).dropped == {"duplicate": Dropped(1, [1])}


@pytest.mark.parametrize(
    ("weight", "counts"), [(1, {1}), (3, {3}), (0.5, {0, 1}), (1.5, {1, 2}), (2.25, {2, 3}), (0.01, {0, 1})]
)
def test_how_often_a_weight_takes_a_row(weight: float, counts: set[int]) -> None:
    taken = [times(weight, random.Random(seed)) for seed in range(2000)]
    assert set(taken) == counts
    assert sum(taken) / 2000 == pytest.approx(weight, abs=0.05)


# whatever is asked for


parts = st.sampled_from(["alpha beta", "gamma", "one more time", "I must decline.", "x", "", "Alpha  Beta"])
row_of_any_kind = st.one_of(
    st.fixed_dictionaries({"instruction": parts, "output": parts, "topic": st.sampled_from("abc")}),
    st.sampled_from(["{broken", "[1]", '{"text": "x"}']),
    st.integers(0, 30).map(lambda i: {**CLEAN["alpaca"](i), "topic": "abc"[i % 3]}),
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "duplicates": st.sampled_from(["exact", "near"]),
        "refusals": st.booleans(),
        "min_characters": st.integers(1, 8),
        "max_characters": st.integers(4, 300),
        "exclude": st.lists(st.sampled_from(["alpha", "^$", "otter", "[0-9]{3}"]), max_size=2),
    },
)
splits = st.sampled_from([{}, {"split": "stratified", "split_by": "topic"}, {"split": "group", "split_by": "topic"}])
options = st.fixed_dictionaries(
    {"filters": filters},
    optional={"validation": st.floats(0, 0.99) | st.integers(0, 20), "max_rows": st.integers(1, 20)},
)


@settings(deadline=None, max_examples=150)
@given(st.lists(row_of_any_kind, max_size=30), options, splits, st.integers(0, 3))
def test_every_row_is_somewhere_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, rows_: list[Any], given_: Json, split: Json, seed: int
) -> None:
    rows_ = [*rows_, {**CLEAN["alpaca"](99), "topic": "a"}]
    data = spec(write(tmp_path_factory.mktemp("any"), "a.jsonl", rows_), format="alpaca", **given_, **split)
    found = selected(data, seed)
    usable = [row for row in rows_of(sources(data), data) if isinstance(row, Row)]
    assert len(set(found.train)) == len(found.train)
    assert not set(found.train) & found.held_out
    assert set(found.train) | found.held_out <= set(range(len(usable)))
    left_out = sum(one.count for one in found.dropped.values())
    assert len(found.train) + len(found.held_out) + left_out == len(rows_)
    for reason, one in found.dropped.items():
        assert one.count >= max(1, len(one.lines))
        assert len(one.lines) == min(20, one.count) or reason == "not in the sample"
    kept_lines = {usable[i].line for i in [*found.train, *found.held_out]}
    assert not kept_lines & {line for one in found.dropped.values() for line in one.lines}
    if len(found.train) + len(found.held_out):
        assert found.train  # something is always left to train on
    if split.get("split") == "group":
        assert not {usable[i].group for i in found.train} & {usable[i].group for i in found.held_out}
    chosen = {row.line: often for row, often in chosen_rows(sources(data), data, found)}
    assert chosen == {usable[i].line: 1 for i in found.train} | {usable[i].line: 0 for i in found.held_out}
    for row in usable:
        if row.line in chosen and data.filters.min_characters:
            assert len(split_text(row.value)[1]) >= data.filters.min_characters


@settings(deadline=None)
@given(
    st.lists(st.sampled_from("abcdef"), max_size=60),
    st.integers(0, 70),
    st.sampled_from(["random", "stratified", "group"]),
    st.integers(0, 9),
)
def test_held_out_places(groups: list[str], count: int, how: str, seed: int) -> None:
    count = min(count, len(groups) - 1)
    held = held_out(groups, count, how, random.Random(seed))
    assert held == held_out(groups, count, how, random.Random(seed))
    assert held <= set(range(len(groups)))
    sizes = Counter(groups)
    if how != "group":
        assert len(held) == max(0, count)
    if count > 0 and how == "stratified":
        shares = Counter(groups[place] for place in held)
        assert all(shares[name] >= int(count / len(groups) * size) for name, size in sizes.items())
    if how == "group":
        assert all(groups[place] in {groups[h] for h in held} for place in held)
        assert not {groups[p] for p in held} & {groups[p] for p in set(range(len(groups))) - held}
        assert len(held) < len(groups) or not groups
        if count > 0 and len(sizes) > 1:
            assert held
            assert len(held) <= max(2 * count, min(sizes.values()))


@given(st.integers(0, 50), st.none() | st.integers(1, 60), st.integers(0, 9))
def test_samples(rows_: int, most: int | None, seed: int) -> None:
    taken = sample(rows_, most, random.Random(seed))
    assert len(taken) == len(set(taken)) == min(rows_, most or rows_)
    assert set(taken) <= set(range(rows_))
