"""The wizard's way: forwards, backwards, away and back, and what its first, third and fourth step settle."""

import asyncio
import threading
from pathlib import Path

import pytest
from textual import events

from tests.helpers import wait_for
from tests.tuiapp.conftest import running
from tests.tuiapp.fakes import RTX_4090, FakeServices, Planner
from tests.tuiapp.wizard import LLAMA, at_step, draft_of, kept, until_kept, write_rows
from tuiapp.draft import DATA, GOAL, MODEL, PLAN, REVIEW, TRAINING, RunDraft, load, save
from tuiapp.flow import Flow
from tuiapp.messages import ForkAsked
from tuiapp.snapshot import NewRun

Size = tuple[int, int]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A data file."""
    return write_rows(tmp_path)


def gpu_box() -> FakeServices:
    """One RTX 4090."""
    return FakeServices(planner=Planner(RTX_4090))


async def test_the_goal_is_chosen_and_the_questions_are_answered(size: Size) -> None:
    async with running(gpu_box(), size=size) as deck:
        await deck.press("n")
        await at_step(deck, GOAL)
        await deck.shows("▸ (•) Instructions", "Is fine-tuning the right tool?", "Open: you may go on.")
        await deck.press("j", "space")
        await deck.shows("(•) Style, format", "rank 4 to 8")
        await deck.press("tab", "right", "down", "right", "right")
        await deck.shows("Fine-tune, probably: prompting was tried and fails and the facts are stable.")
        await deck.press("left")
        await deck.shows("Retrieval for the facts")
        await deck.press("up", "right")
        await deck.shows("Prompting, probably: it works already.")
        await deck.press("i")
        await deck.shows("Retrieval", "Fine-tuning")


async def test_any_step_and_back_again(size: Size, rows: Path) -> None:
    services = kept(gpu_box(), model=LLAMA, data=str(rows), step=PLAN, passed=[0, 1, 2])
    async with running(services, size=size) as deck:
        await deck.press("n")
        await at_step(deck, PLAN)
        await deck.shows("of 24.0 GiB", "✓1 Goal", "✓3 Data", "▸4 Plan", "LoRA")
        await deck.press("3")
        await at_step(deck, DATA)
        await deck.shows("65 kept", "[ ] drop")
        await deck.press("ctrl+o")
        await at_step(deck, MODEL)
        await deck.press("ctrl+o")
        await at_step(deck, GOAL)
        await deck.press("ctrl+o")
        await deck.shows("This is the first step.")
        await deck.press("4")
        await at_step(deck, PLAN)
        await deck.press("ctrl+r")
        await at_step(deck, REVIEW)
        await deck.press("ctrl+o")
        await at_step(deck, TRAINING)


async def test_leaving_keeps_the_draft_and_n_goes_on(size: Size, rows: Path) -> None:
    services = kept(gpu_box(), model=LLAMA, data=str(rows), step=PLAN)
    async with running(services, size=size) as deck:
        await deck.press("n")
        await deck.shows("of 24.0 GiB", "draft saved")
        await deck.press("g", "j", "j", "l")
        await deck.until(lambda: (draft_of(services) or RunDraft()).plan.get("rank") is not None)
        await deck.press("q")
        await deck.until(lambda: deck.place == "HomeScreen")
        await deck.shows("The draft is kept: n goes on with it.")
        kept_rank = draft_of(services).plan["rank"]  # type: ignore[union-attr]
        await deck.press("n")
        await at_step(deck, PLAN)
        await deck.until(lambda: f"{kept_rank}" in deck.text("#choice").splitlines()[3])
        await deck.press("D")
        await deck.shows("Forget this draft?")
        await deck.press("D")
        await at_step(deck, GOAL)
        assert draft_of(services) is None


async def test_what_the_plan_step_settles_is_what_starts(rows: Path) -> None:
    services = kept(gpu_box(), model=LLAMA, data=str(rows), step=PLAN)
    async with running(services) as deck:
        await deck.press("n")
        await deck.shows("of 24.0 GiB", "micro-batch")
        form = services.planner.plan(NewRun(LLAMA, str(rows), "", goal="instructions"))
        await deck.press("g", "j", "j", "l")
        more = next(r for r in (4, 8, 16, 32, 64) if r > form.recommended.values.rank)
        await until_kept(deck, model=LLAMA)
        await deck.until(lambda: (draft_of(services) or RunDraft()).settled.get("method.rank") == more)
        draft = draft_of(services)
        assert draft is not None
        assert dict(draft.form().chosen)["method.rank"] == more
        await deck.press("equals_sign")
        await deck.until(lambda: (draft_of(services) or draft).settled == {})


async def test_a_plan_that_does_not_fit_stops_the_step(rows: Path) -> None:
    services = kept(gpu_box(), model=LLAMA, data=str(rows), step=PLAN)
    async with running(services) as deck:
        await deck.press("n")
        await deck.shows("of 24.0 GiB")
        await deck.press("g", "j", "l", "l", "l")
        await deck.shows("no")
        while "full" not in deck.text("#choice").splitlines()[2]:
            await deck.press("l")
        await deck.press("enter")
        await deck.shows("It does not fit.")
        assert deck.place == "PlanStep"


async def test_no_model_and_no_data_are_said(size: Size) -> None:
    async with running(gpu_box(), size=size) as deck:
        await deck.press("n", "4")
        await at_step(deck, PLAN)
        await deck.shows("No model is chosen yet")
        await deck.press("enter")
        await deck.shows("Choose a model first")
        await deck.press("3")
        await at_step(deck, DATA)
        await deck.press("enter")
        await deck.shows("Type the path of a file first.")


async def test_a_file_is_typed_read_and_accepted(size: Size, rows: Path) -> None:
    services = kept(gpu_box(), model=LLAMA, step=DATA)
    async with running(services, size=size) as deck:
        await deck.press("n")
        await at_step(deck, DATA)
        await deck.press(*str(rows)[:-4])
        await deck.shows(rows.name, "Enter reads and checks it.")
        await deck.press("tab")
        await deck.shows("It begins", "What is 0 plus 0?")
        await deck.press("enter")
        await deck.shows("64 kept", "duplicate", "What the model sees   row 1 of 64")
        await until_kept(deck, data=str(rows), rows={"data.filters.duplicates": "exact"})
        await deck.press("enter")
        await at_step(deck, PLAN)


async def test_files_are_chosen_with_the_arrows(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write_rows(tmp_path / "deep")
    async with running(kept(gpu_box(), model=LLAMA, step=DATA)) as deck:
        await deck.press("n")
        await at_step(deck, DATA)
        await deck.press(*f"{tmp_path}/", "down")
        await deck.shows("▸ ", "deep/")
        await deck.press("enter")
        await deck.shows("rows.jsonl")
        await deck.press("down", "enter")
        await deck.shows("64 kept")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.jsonl", None, "does not exist"),
        ("broken.jsonl", '{"instruction": "a", "output"\n', "cannot"),
        ("empty.jsonl", "", "no rows"),
        ("binary.jsonl", "\x00\x01\x02", "cannot"),
    ],
)
async def test_wrong_files_stop_with_a_sentence(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    async with running(kept(gpu_box(), model=LLAMA, step=DATA)) as deck:
        await deck.press("n")
        await at_step(deck, DATA)
        await deck.press(*str(path), "enter")
        await deck.until(lambda: words in deck.screen().lower().replace("\n ", ""))
        await deck.press("enter")
        await deck.shows("✗")
        assert deck.place == "DataStep"


async def test_other_data_forgets_what_was_ticked(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    other = write_rows(tmp_path / "more", 40)
    services = kept(gpu_box(), model=LLAMA, data=str(rows), rows={"training.long_rows": "cut"}, step=DATA)
    async with running(services) as deck:
        await deck.press("n")
        await deck.shows("65 kept")
        await deck.press("slash", *(["backspace"] * len(str(rows))), *str(other), "enter")
        await deck.shows("40 kept")
        await until_kept(deck, data=str(other), rows={"data.filters.duplicates": "exact"})


async def test_keys_typed_ahead_reach_the_step_that_they_are_for(rows: Path) -> None:
    """Over a slow link they come all at once."""
    services = gpu_box()
    async with running(services) as deck:
        for key in ("n", "3", *str(rows), "\r"):
            name = {"/": "slash", ".": "full_stop", "_": "underscore", "-": "minus", "\r": "enter"}.get(key, key)
            deck.app.post_message(events.Key(name, key))
        await deck.shows("64 kept", seconds=30)
        assert deck.place == "DataStep"


async def test_keys_stay_in_their_order() -> None:
    async with running(kept(gpu_box(), model=LLAMA, step=DATA)) as deck:
        await deck.press("n")
        await at_step(deck, DATA)
        text = "".join(chr(ord("a") + i * 7 % 26) for i in range(300))
        for i, key in enumerate(text):
            deck.app.post_message(events.Key(key, key))
            if i % 17 == 0:
                await asyncio.sleep(0)
        field = deck.widget("#data")
        await deck.until(lambda: len(field.value) == len(text))  # type: ignore[attr-defined]
        assert field.value == text  # type: ignore[attr-defined]


async def test_a_fork_has_the_parents_settings_and_the_remedy() -> None:
    services = gpu_box()
    async with running(services) as deck:
        deck.app.post_message(ForkAsked("mbx2k1", (("training.learning_rate", 1e-4), ("training.micro_batch", 8))))
        await at_step(deck, REVIEW)
        await deck.shows("fork of support-lora-r32")
        draft = deck.app.screen.flow.draft  # type: ignore[attr-defined]
        chosen = dict(draft.form().chosen)
        assert chosen["training.learning_rate"] == 1e-4
        assert chosen["training.micro_batch"] == 8
        assert chosen["training.epochs"] == 3.0
        assert draft.form().parent == "mbx2k1"
        assert draft.plan["micro_batch"] == 8


@pytest.mark.parametrize("small", [(59, 24), (40, 12), (24, 6), (20, 5), (8, 2), (1, 1)])
async def test_every_step_works_at_any_size(small: Size, rows: Path) -> None:
    services = kept(gpu_box(), model=LLAMA, data=str(rows))
    async with running(services, size=small) as deck:
        await deck.press("n")
        for step in range(6):
            deck.app.screen.action_step(step)  # type: ignore[attr-defined]
            await at_step(deck, step)
            await deck.pilot.pause(0.05)
            assert len(deck.screen().splitlines()) <= small[1]


def test_a_draft_is_kept_as_it_was(tmp_path: Path) -> None:
    draft = RunDraft("domain", [True, None, False], "m", "d", "name", "p", {"a.b": [1]}, "here", {"rank": 8}, {"method.rank": 8},
                     {"data.filters.duplicates": "exact"}, {"training.epochs": 2}, 4, [0, 2])  # fmt: skip
    save(tmp_path / "drafts" / "new.json", draft)
    assert load(tmp_path / "drafts" / "new.json") == draft
    assert (tmp_path / "drafts" / "new.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"step": "x"}', '{"rows": 3}', '{"goal": "fun"}', '{"answers": [null]}', "\x00"]
)
def test_a_draft_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "new.json").write_text(text)
    assert load(tmp_path / "new.json") is None


def test_another_model_forgets_what_was_planned_for_the_old_one() -> None:
    draft = RunDraft(model="a", data="d", plan={"rank": 8}, settled={"method.rank": 8},
                     rows={"training.max_length": 64, "data.filters.duplicates": "exact"})  # fmt: skip
    draft.choose_model("b")
    assert (draft.plan, draft.settled, draft.rows) == ({}, {}, {"data.filters.duplicates": "exact"})


def test_another_method_takes_nothing_of_the_parents() -> None:
    draft = RunDraft(model="a", data="d", parent="p", given={"method.kind": "lora", "method.dropout": 0.1, "training.seed": 3},
                     settled={"method.kind": "full"})  # fmt: skip
    assert dict(draft.form().chosen) == {"training.seed": 3, "method.kind": "full"}


async def test_beginning_anew_from_a_fork_keeps_the_draft_of_a_new_run(rows: Path) -> None:
    services = kept(gpu_box(), model=LLAMA, data=str(rows), step=GOAL)
    async with running(services) as deck:
        deck.app.post_message(ForkAsked("mbx2k1"))
        await at_step(deck, REVIEW)
        await deck.press("D", "D")
        await at_step(deck, GOAL)
        await deck.shows("Llama-3.1-8B", "rows.jsonl")
        assert [file.name for file in services.drafts.iterdir()] == ["new.json"]


def test_a_draft_that_ended_while_it_was_written_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(file: Path, draft: RunDraft) -> None:
        begun.set()
        go_on.wait(20)
        save(file, draft)

    monkeypatch.setattr("tuiapp.draft.save", slowly)
    flow = Flow(gpu_box(), RunDraft(model="m"), tmp_path / "new.json")
    flow.save()
    assert begun.wait(20)
    flow.end()
    go_on.set()
    wait_for(lambda: not [one for one in threading.enumerate() if one.name == "draft"], 20)
    assert not (tmp_path / "new.json").exists()
