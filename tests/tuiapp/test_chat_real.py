"""The chat screen on SmolLM2 and the demo's adapter: real processes, real answers, the transcript in the database."""

from collections import defaultdict

import psutil
import pytest

from engine.store import afterwards
from engine.store.connection import open_database
from tests.helpers import Run
from tests.tuiapp.conftest import Driver
from tuiapp.app import TuneDeckApp
from tuiapp.screens.chat import ChatScreen
from tuiapp.services import Services

QUESTION = "What is the capital of France?"


def children() -> list[psutil.Process]:
    """The processes that answer."""
    return [one for one in psutil.Process().children(recursive=True) if "engine.worker.chat" in one.cmdline()]


@pytest.mark.slow
async def test_base_and_tuned_answer_as_tokens_come_and_a_killed_process_is_told(captain: Run) -> None:
    app = TuneDeckApp(Services(captain.deck.database))  # type: ignore[arg-type]  # it has no fakes
    async with app.run_test(size=(80, 24)) as pilot:
        deck = Driver(app, pilot, None)  # type: ignore[arg-type]
        await deck.shows("captain-lora-r16")
        await deck.press("t")
        await deck.until(lambda: "One base in memory" in deck.screen(), 120)
        screen = app.screen
        assert isinstance(screen, ChatScreen)
        await deck.press(*("space" if one == " " else one for one in QUESTION[:-1]), "question_mark", "enter")
        seen: dict[int, set[str]] = defaultdict(set)

        def ended() -> bool:
            for i, one in enumerate(screen.chat.turns[-1].answers if screen.chat.turns else ()):
                seen[i].add(one.text)
            return bool(screen.chat.turns) and screen.chat.state == "ready"

        await deck.until(ended, 120)
        base, tuned = screen.chat.turns[-1].answers
        assert len(seen[0]) > 3
        assert len(seen[1]) > 3
        assert base.text != tuned.text
        assert tuned.end == "stopped by itself"
        assert "tok/s" in deck.screen()
        (child,) = children()
        child.kill()
        await deck.shows("✗ The chat has ended", "killed by signal 9", "r try again", seconds=60)
        await deck.press("escape")
        await deck.until(lambda: deck.place == "HomeScreen")
    assert children() == []
    db = open_database(captain.deck.database)
    job = afterwards.of_run(db, captain.id, "chat")[0]
    rows = afterwards.rows(db, captain.id, job["job"])
    db.close()
    assert [(row["role"], row["text"]) for row in rows] == [
        ("user", QUESTION), ("assistant", base.text), ("assistant", tuned.text),
    ]  # fmt: skip
