"""The chat screen: opened, typed into, answered, scrolled, stopped and left, with a fake in place of the models."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import pytest
from textual import events
from textual.widgets import Input

from engine.errors import NoFit, RunError
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fake_chat import READY, SAID, TURN, FakeChat, answer, token
from tests.tuiapp.fakes import FakeServices, runs
from tuiapp.chat_services import Event
from tuiapp.chat_snapshot import Sampling
from tuiapp.messages import ChatAsked
from tuiapp.screens import chat
from tuiapp.screens.chat import ChatScreen

Size = tuple[int, int]
FINISHED = next(run for run in runs() if run.status == "finished")
OTHER = next(
    run for run in runs() if run.status == "finished" and run.id != FINISHED.id and run.model == FINISHED.model
)
QUESTION = "Why?"


class Made:
    """Services whose chats are kept at hand."""

    def __init__(self, **options: object) -> None:
        self.chats: list[FakeChat] = []
        self.services = FakeServices(chats=self._make)
        self._options = options

    def _make(self, run_ids: tuple[str, ...]) -> FakeChat:
        self.chats.append(FakeChat(run_ids, **self._options))  # type: ignore[arg-type]
        return self.chats[-1]

    @property
    def last(self) -> FakeChat:
        return self.chats[-1]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told is heard at once: what is tested is not how long half a second is."""
    monkeypatch.setattr(chat, "IDLE", 0.02)
    monkeypatch.setattr(chat, "PERIOD", 0.02)


async def opened(deck: Driver, *run_ids: str) -> ChatScreen:
    """The chat with these runs, the model loaded."""
    deck.app.post_message(ChatAsked(run_ids or (FINISHED.id,)))
    await deck.shows("One base in memory" if deck.app.size.width >= 60 else "saved with the run")
    assert isinstance(deck.app.screen, ChatScreen)
    return deck.app.screen


async def typed(deck: Driver, text: str) -> None:
    names = {" ": "space", "?": "question_mark", ".": "full_stop", ":": "colon", "/": "slash"}
    await deck.press(*(names.get(one, one) for one in text))


async def asked(deck: Driver, text: str = QUESTION) -> None:
    await typed(deck, text)
    await deck.press("enter")


async def test_both_answer_side_by_side(size: Size) -> None:
    made = Made()
    async with running(made.services, size) as deck:
        await opened(deck)
        await asked(deck)
        await deck.shows(
            f" You   {QUESTION}", "96 tokens, cut at the limit", "28 tokens, stopped by itself", "repeats: 41 %"
        )
        await deck.shows("Cracked lids are common", "I am sorry about that.")
        assert made.last.calls == [("ask", QUESTION, "", Sampling())]
        assert deck.widget("#question").value == ""  # type: ignore[attr-defined]
        assert f"Base   {'Llama-3.1-8B'}" in deck.screen()
        assert "GPU 0  RTX 4090" in deck.screen()


async def test_answers_stream(size: Size) -> None:
    made = Made(by_itself=False)
    async with running(made.services, size) as deck:
        await opened(deck)
        await asked(deck)
        await deck.shows("waits for its turn")
        for word in ("The", " lid", " is"):
            made.last.told.append(token("base", word))
        await deck.shows(" The lid is ")
        assert "waits for its turn" in deck.screen()
        made.last.told.append(answer("base", "The lid is"))
        made.last.told.append(token("tuned", "Sorry"))
        await deck.shows("│ Sorry", "28 tokens")


async def test_opened_from_runs_with_the_marked_of_the_same_base(size: Size) -> None:
    strange = replace(FINISHED, id="strange", name="strange", model="mistral")
    services = FakeServices(lines=(FINISHED, OTHER, strange))
    async with running(services, size) as deck:
        await deck.shows(FINISHED.name)
        await deck.press("space", "down", "space", "down", "space", "g", "t")
        await deck.until(lambda: deck.place == "ChatScreen")
        assert ("chat", (FINISHED.id, OTHER.id), False) in services.calls
        await deck.press("escape")
        await deck.shows("1 of the marked left out")


async def test_opened_from_live_and_back() -> None:
    services = FakeServices(lines=(FINISHED,))
    async with running(services) as deck:
        await deck.shows(FINISHED.name)
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen" and "t chat" in deck.screen())
        await deck.press("t")
        await deck.shows("One base in memory")
        await deck.press("escape")
        await deck.until(lambda: deck.place == "LiveScreen")


@pytest.mark.parametrize("change", [{"status": "running", "ended_at": None}, {"imported": True}, {"status": "queued"}])
async def test_there_is_no_chat_with_what_has_learned_nothing(change: dict[str, object]) -> None:
    services = FakeServices(lines=(replace(FINISHED, **change),))  # type: ignore[arg-type]
    async with running(services) as deck:
        await deck.shows(FINISHED.name)
        await deck.press("t", "m")
        await deck.until(lambda: deck.place == "MachineScreen")
        assert not [call for call in services.calls if call[0] == "chat"]


async def test_letters_are_typed_and_do_nothing_else(size: Size) -> None:
    made = Made()
    async with running(made.services, size) as deck:
        screen = await opened(deck)
        everything = "qrtumncYJ?:/[]0 1g"
        await typed(deck, "qrtumncYJ?:/")
        await deck.press("left_square_bracket", "right_square_bracket", "0", "space", "1", "g")
        field = deck.widget("#question")
        assert isinstance(field, Input)
        assert field.value == everything
        assert deck.app.screen is screen
        assert made.last.calls == []


async def test_question_and_answer_typed_ahead_of_a_slow_link() -> None:
    made = Made()
    async with running(made.services) as deck:
        await opened(deck)
        for key in [*"one", "enter", *"two"]:
            deck.app.post_message(events.Key(key, key if len(key) == 1 else None))
        await deck.until(lambda: deck.widget("#question").value == "two")  # type: ignore[attr-defined]
        assert [call[1] for call in made.last.calls] == ["one"]


async def test_a_question_put_while_the_model_loads_is_kept_and_put() -> None:
    phase: Event = {"type": "phase", "name": "load", "text": "loads Llama-3.1-8B"}
    made = Made(told=deque([phase]))
    async with running(made.services) as deck:
        deck.app.post_message(ChatAsked((FINISHED.id,)))
        await deck.shows("loads Llama-3.1-8B …")
        await asked(deck)
        await deck.shows("then your question is put")
        assert made.last.calls == []
        made.last.told.append(READY)
        await deck.shows("28 tokens, stopped by itself")
        assert [call[1] for call in made.last.calls] == [QUESTION]


async def test_escape_stops_the_answer_then_leaves() -> None:
    made = Made(by_itself=False)
    async with running(made.services) as deck:
        screen = await opened(deck)
        await asked(deck)
        await deck.shows("Esc stop")
        await deck.press("escape")
        await deck.shows("stopping the answer")
        await deck.until(lambda: ("stop",) in made.last.calls)
        for voice in ("base", "tuned"):
            made.last.told.append(answer(voice, "So far", "asked", 2))
        made.last.told.append(TURN)
        await deck.shows("2 tokens, stopped by you", "Esc back")
        await deck.press("escape")
        await deck.shows(
            "The answer had just ended."
        )  # one that was to stop it comes too late: nothing is lost by that
        assert deck.app.screen is screen
        await deck.press("escape")
        await deck.until(lambda: deck.place == "HomeScreen")
        await deck.until(lambda: ("close",) in made.last.calls)


async def test_a_second_question_waits_for_the_answer() -> None:
    made = Made(by_itself=False)
    async with running(made.services) as deck:
        await opened(deck)
        await asked(deck, "one")
        await asked(deck, "two")
        await deck.shows("The answer is still coming. Esc stops it.")
        assert [call[1] for call in made.last.calls] == ["one"]
        assert deck.widget("#question").value == "two"  # type: ignore[attr-defined]


async def test_settings_count_from_the_next_question_on(size: Size) -> None:
    made = Made(system="Be brief.")
    async with running(made.services, size) as deck:
        await opened(deck)
        await deck.shows("Be brief.")
        await deck.press(
            "tab",
            "end",
            *"Now",
            "tab",
            "home",
            "delete",
            "delete",
            "delete",
            "0",
            "tab",
            "tab",
            "tab",
            "end",
            "7",
            "enter",
        )
        assert deck.app.focused is deck.widget("#question")
        await asked(deck)
        await deck.until(lambda: made.last.calls)
        assert made.last.calls == [("ask", QUESTION, "Be brief.Now", Sampling(temperature=0.0, seed=427))]


async def test_a_setting_that_makes_no_sense_is_told_and_nothing_is_asked() -> None:
    made = Made()
    async with running(made.services) as deck:
        await opened(deck)
        await deck.press("tab", "tab", "home", "9", "escape")
        await deck.shows("temperature is a number from 0 to 2")
        await asked(deck)
        await deck.shows("Not yet: temperature is a number")
        assert made.last.calls == []
        await deck.press("tab", "tab", "home", "delete", "escape", "enter")
        await deck.until(lambda: made.last.calls)


async def test_questions_come_back() -> None:
    made = Made()
    async with running(made.services) as deck:
        await opened(deck)
        for text in ("first", "second"):
            await asked(deck, text)
            await deck.until(lambda: deck.app.screen.chat.state == "ready")  # type: ignore[attr-defined]
        field = deck.widget("#question")
        assert isinstance(field, Input)
        for key, value in (("up", "second"), ("up", "first"), ("up", "first"), ("down", "second"), ("down", "")):
            await deck.press(key)
            assert field.value == value, key


async def test_history_is_paged_through() -> None:
    made = Made()
    async with running(made.services, (80, 24)) as deck:
        screen = await opened(deck)
        for text in ("first", "second", "third"):
            await asked(deck, text)
            await deck.until(lambda: screen.chat.state == "ready")
        await deck.shows(" You   third")
        await deck.press("pageup", "pageup", "pageup", "pageup")
        await deck.shows(" You   first", "lines below, PgDn")
        await deck.press("pagedown", "pagedown", "pagedown", "pagedown")
        await deck.until(lambda: "third" in deck.screen() and "below" not in deck.screen())
        await deck.press("pageup", "pageup", "pageup", "pageup")
        await asked(deck, "fourth")
        await deck.shows(" You   fourth")


async def test_other_adapters_where_there_is_no_column_for_them(size: Size) -> None:
    made = Made()
    async with running(made.services, size) as deck:
        await opened(deck, FINISHED.id, OTHER.id)
        await asked(deck)
        await deck.shows("28 tokens")
        first, second = f"run {FINISHED.id}", f"run {OTHER.id}"
        if size[0] == 160:
            assert first in deck.screen()
            assert second in deck.screen()
            assert "other adapter" not in deck.screen()
            return
        assert first in deck.screen()
        assert second not in deck.screen()
        await deck.press("ctrl+n")
        await deck.until(lambda: second in deck.screen() and first not in deck.screen())
        assert SAID["tuned"][:20] in deck.screen()
        await deck.press("ctrl+o")
        await deck.shows(first, "Tuned 1 of 2")


async def test_a_process_that_dies_is_told_calmly_and_can_be_begun_again(size: Size) -> None:
    made = Made(by_itself=False)
    async with running(made.services, size) as deck:
        await opened(deck)
        await asked(deck)
        made.last.told.append(token("base", "So far"))
        await deck.shows("So far")
        made.last.told.append({"type": "failed", "kind": "died", "voice": None, "fatal": True, "title": "The chat has ended",
                               "message": "The process was killed by signal -9.", "hint": "What was said is kept."})  # fmt: skip
        await deck.shows(
            "✗ The chat has ended", "killed by signal", "So far", "broken off", "What helps", "r try again"
        )
        await deck.until(lambda: ("close",) in made.last.calls)
        await deck.press("r")
        await deck.until(lambda: len(made.chats) == 2)
        await deck.shows("One base in memory", "Ask something")
        await asked(deck)
        await deck.until(lambda: made.last.calls and made.last.calls[0][1] == QUESTION)


@pytest.mark.parametrize("leave", ["q", "escape"])
async def test_runs_that_cannot_speak_together_are_told(leave: str) -> None:
    def refuse(_: tuple[str, ...]) -> FakeChat:
        raise RunError("The runs have other bases", "a was trained on x, b on y.", "Chat with runs of one base model.")

    async with running(FakeServices(chats=refuse)) as deck:
        deck.app.post_message(ChatAsked((FINISHED.id, OTHER.id)))
        await deck.shows(
            "✗ The runs have other bases", "a was trained on x, b on y.", "Chat with runs of one base model."
        )
        await deck.press(leave)
        await deck.until(lambda: deck.place == "HomeScreen")


async def test_where_no_card_has_room_the_processor_is_offered() -> None:
    made = Made()

    def on_a_card(run_ids: tuple[str, ...]) -> FakeChat:
        if made.services.calls[-1] == ("chat", run_ids, True):
            return made._make(run_ids)
        raise NoFit("No card has room for a chat", "It needs about 9.0 GiB.", "Chat on the CPU: --cpu.")

    made.services.chats = on_a_card
    async with running(made.services) as deck:
        deck.app.post_message(ChatAsked((FINISHED.id,)))
        await deck.shows("✗ No card has room for a chat", "Enter on the CPU")
        assert "--cpu" not in deck.screen()
        await deck.press("enter")
        await deck.shows("One base in memory")


async def test_one_voice_that_fails_leaves_the_other() -> None:
    made = Made(by_itself=False)
    async with running(made.services) as deck:
        await opened(deck)
        await asked(deck)
        failed = {
            "type": "failed",
            "voice": "base",
            "fatal": False,
            "title": "There is not enough memory",
            "message": "It broke.",
        }
        made.last.told.extend([failed, answer("tuned", "Fine here."), TURN])
        await deck.shows("✗ There is not enough memory", "Fine here.", "Esc back")
        await asked(deck, "more")
        await deck.until(lambda: len(made.last.calls) == 2)


async def test_the_last_question_is_taken_back_and_put_another_way() -> None:
    made = Made()
    async with running(made.services) as deck:
        screen = await opened(deck)
        await asked(deck)
        await deck.shows("28 tokens")
        await screen.run_action("undo")  # as the palette does it
        await deck.until(lambda: ("undo",) in made.last.calls)
        assert screen.chat.turns == ()
        assert deck.widget("#question").value == QUESTION  # type: ignore[attr-defined]


async def test_leaving_while_it_still_loads_closes_it_too() -> None:
    made, gate = Made(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(run_ids: tuple[str, ...]) -> FakeChat:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(20)
        return made._make(run_ids)

    made.services.chats = slow
    async with running(made.services) as deck:
        deck.app.post_message(ChatAsked((FINISHED.id,)))
        await deck.until(lambda: deck.place == "ChatScreen")
        await deck.press("escape")
        await deck.until(lambda: deck.place == "HomeScreen")
        gate.set()
        await deck.until(lambda: made.chats and made.last.calls == [("close",)])


async def test_quitting_waits_until_what_was_said_is_kept() -> None:
    made = Made()
    async with running(made.services) as deck:
        await opened(deck)
        await asked(deck)
        await deck.shows("28 tokens")
        await deck.press("ctrl+q")
    assert made.last.calls[-1] == ("close",)


async def test_only_what_is_new_is_drawn() -> None:
    made = Made(by_itself=False)
    async with running(made.services) as deck:
        await opened(deck)
        await asked(deck)
        made.last.told.append(token("base", "The lid"))
        await deck.shows("The lid")
        talk, drawn = deck.widget("#talk"), list[int]()
        refresh: Callable[..., object] = talk.refresh
        talk.refresh = lambda *regions, **options: (
            drawn.extend(one.area for one in regions) or refresh(*regions, **options)
        )  # type: ignore[method-assign, assignment]
        made.last.told.append(token("base", " is broken"))
        await deck.shows("The lid is broken")
        assert sum(drawn) <= len(" is broken")


async def test_in_little_room_one_voice_and_one_field_at_a_time() -> None:
    made = Made()
    async with running(made.services, (40, 12)) as deck:
        await opened(deck)
        await asked(deck)
        await deck.shows("stopped by itself", "Tuned")
        await deck.press("ctrl+n", "pageup")
        await deck.shows("Base", "Cracked lids")
        await deck.press("tab", "tab")
        await deck.shows("temperature 0.7")
        await deck.press("escape")
        await deck.shows(" You ")


async def test_ascii_and_no_control_characters() -> None:
    made = Made(by_itself=False)
    async with running(made.services, ascii=True) as deck:
        await opened(deck)
        await asked(deck)
        made.last.told.extend([answer("base", "a\x1b[2Jb\x07 \u202ec"), answer("tuned", "“so”…"), TURN])
        await deck.shows("ab c")
        shown = deck.screen().replace("\n", "")
        assert shown.isascii()
        assert shown.isprintable()


async def test_help_says_what_the_screen_and_the_field_are_for() -> None:
    made = Made()
    async with running(made.services) as deck:
        screen = await opened(deck)
        await deck.press("tab", "tab", "ctrl+g")
        await deck.shows(
            "Temperature, where you were", "the next adapter" if len(screen.chat.voices) > 2 else "send the question"
        )
        await deck.press("escape")
        await deck.until(lambda: deck.app.screen is screen)
