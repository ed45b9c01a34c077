"""The machine screen and the strip: machines of no, one, two, four and eight cards, at two sizes and in very little room."""

import threading
from dataclasses import replace

import pytest

from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import FakeServices
from tests.tuiapp.fakes_machine import EIGHT, FOUR, MACHINES, NONE, ONE, SILENT, TWO
from tuiapp.machine_layout import There, lines_of_a_card, machine_places
from tuiapp.screens.machine import MachineScreen
from tuiapp.snapshot import Machine
from tuiapp.widgets.card_use import counts, use_of
from tuiapp.widgets.machine_cards import history
from tuiapp.widgets.machine_panes import starts
from tuiapp.widgets.strip import strip_line

Size = tuple[int, int]


async def opened(deck: Driver) -> None:
    """From Home to the machine."""
    await deck.press("m")
    await deck.until(lambda: deck.place == "MachineScreen")
    await deck.shows("Machine")


class TestStrip:
    """SCREENS.md 0."""

    def test_one_card(self) -> None:
        text = strip_line(ONE, 80).plain
        assert text.startswith(" GPU 0  RTX 4090  ━━━")
        assert text.rstrip().endswith("19.3 of 24.0 GiB   98 %  402 W  71 °C")
        assert "support-lora-r16" in strip_line(ONE, 160).plain

    def test_two_cards(self) -> None:
        assert strip_line(TWO, 80).plain.rstrip() == (
            " RTX 4090  0 ━━━━━━━━──  19.3 of 24.0  98 %   1 ━━━━━━━━━─  21.6 of 24.0 100 %"
        )

    def test_eight_cards(self) -> None:
        assert strip_line(EIGHT, 80).plain.rstrip() == (
            " 8 x H100   5 ours, 1 other, 1 free, 1 held   412 of 637 GiB   4.0 kW   69 °C"
        )

    def test_a_lost_card_is_counted_as_lost(self) -> None:
        assert "1 ours, 1 other, 1 free, 1 lost" in strip_line(FOUR, 80).plain

    def test_no_card_and_a_silent_driver_say_where_to_ask(self) -> None:
        assert strip_line(NONE, 80).plain.startswith(" No GPU  CPU i7-1260P  ━")
        assert strip_line(NONE, 80).plain.endswith("RAM 9.8 of 15.4 GiB        m why ")
        assert strip_line(SILENT, 80).plain.startswith(" GPU    –   The NVIDIA driver and its library differ")
        assert strip_line(SILENT, 80).plain.endswith("m why ")

    @pytest.mark.parametrize("name", MACHINES)
    @pytest.mark.parametrize("width", [1, 20, 40, 79, 80, 119, 120, 160, 300])
    def test_any_width_is_kept(self, name: str, width: int) -> None:
        assert strip_line(MACHINES[name], width).cell_length == width


class TestUse:
    def test_what_each_card_is_to_us(self) -> None:
        assert [use_of(card) for card in EIGHT.gpus] == ["ours"] * 5 + ["other", "free", "held"]
        assert [use_of(card) for card in FOUR.gpus] == ["ours", "other", "free", "lost"]

    def test_a_desktop_uses_no_card_and_an_unnamed_program_does(self) -> None:
        desktop = replace(ONE.gpus[0], leased=False, leases=(), processes=ONE.gpus[0].processes[1:])  # type: ignore[index]
        assert use_of(desktop) == "free"
        assert use_of(replace(desktop, processes=None)) == "other"
        assert use_of(replace(desktop, processes=None, memory_used=0.4)) == "free"

    def test_only_what_there_is_is_counted(self) -> None:
        assert [text for text, _ in counts(TWO.gpus)] == ["1 ours", "1 other"]

    def test_ten_minutes(self) -> None:
        assert history((float("nan"), 0.0, 50.0, 100.0, 300.0)) == " ▁▅██"

    def test_when_a_run_starts(self) -> None:
        assert [starts(moment, 1000.0) for moment in (None, 900.0)] == ["–", "now"]
        assert starts(1600.0, 1000.0).startswith("~")
        assert " " in starts(1000.0 + 40 * 3600, 1000.0), "another day is named"


class TestLayout:
    @pytest.mark.parametrize("width", [1, 24, 59, 60, 80, 119, 120, 160, 250])
    @pytest.mark.parametrize("height", [1, 5, 6, 12, 19, 20, 24, 30, 48, 80])
    @pytest.mark.parametrize("cards", [1, 2, 8, 16])
    def test_panes_stand_inside_and_apart(self, width: int, height: int, cards: int) -> None:
        there = There(cards, 5, facts=3, processes=2, days=3, happened=9, notes=cards % 2 * 3)
        places = machine_places(width, height, there)
        assert "cards" in places
        taken: set[tuple[int, int]] = set()
        for name, region in places.items():
            rows = {(row, 0) for row in range(region.y, region.bottom)}
            assert region.height >= 1, name
            assert region.bottom <= height, name
            assert region.right <= width, name
            assert not rows & taken, name
            taken |= rows

    def test_the_queue_keeps_three_rows(self) -> None:
        assert machine_places(80, 24, There(30, 9))["queue"].height == 4
        assert machine_places(80, 24, There(1, 9))["queue"].height == 10

    def test_as_roomy_as_there_is_room(self) -> None:
        assert [lines_of_a_card(room, 4) for room in (12, 11, 9, 8, 2)] == [3, 2, 2, 1, 1]


@pytest.mark.parametrize("name", MACHINES)
async def test_every_machine_at_both_sizes(name: str, size: Size) -> None:
    async with running(FakeServices(machine=MACHINES[name]), size) as deck:
        await opened(deck)
        machine = MACHINES[name]
        await deck.shows(
            machine.host, "Queue", "? help", "q back", "GiB free" if size[0] == 80 and name != "eight" else "free"
        )
        for card in machine.gpus:
            await deck.shows(f"{card.memory_used} of {card.memory_total}" if not card.lost else "lost")
        assert all(character.isprintable() or character == "\n" for character in deck.screen())
        await deck.press("q")
        await deck.until(lambda: deck.place == "HomeScreen")


async def test_four_cards_one_of_them_lost() -> None:
    async with running(FakeServices(machine=FOUR)) as deck:
        await opened(deck)
        await deck.shows(
            "4 GPUs: 1 ours, 1 other, 1 free, 1 lost",
            "● support-lora-r16   you   pid 41207   18.9 GiB   ends",
            "python train.py   alice   pid 38811   21.4 GiB   4 h   ! hot",
            "free   23.7 GiB",
            "lost   the driver no longer reaches it",
            "1 ○ support-70b-qlora",
            "a second free card",
            "their-run (alice)",
        )


async def test_eight_cards_with_everything() -> None:
    async with running(FakeServices(machine=EIGHT), (160, 48)) as deck:
        await opened(deck)
        await deck.shows(
            "412 of 637 GiB in use   4.0 kW of 5.6", "driver 580.65.06, CUDA 13.0", "last 10 min", "● mistral-full",
            "alice: vllm serve, 3 d", "held back by you", "you: jupyter-lab", "SM clock 1,755 MHz of 1,980",
            "Processes on GPU 0", "step 262 of 414", "Would get", "GPU 6 and 4", "4.4 h", "A run starts when its cards",
            "48.0 of 192", "Events", "waits for a second free card",
        )  # fmt: skip
        await deck.press(*"jjjjj")
        await deck.shows("Processes on GPU 5", "38811")


async def test_no_gpu_says_why_and_shows_the_queue_of_the_processor(size: Size) -> None:
    async with running(FakeServices(machine=NONE), size) as deck:
        await opened(deck)
        await deck.shows(
            "no GPU", "No NVIDIA driver is installed", "tunedeck doctor", "12 % of 16 threads", "9.8 of 15.4 GiB"
        )
        await deck.shows(
            "● support-lora-r16   you", "support-lora-r64", "the CPU", "support-lora-r16 to end", "88 GiB free"
        )
        await deck.press("space")
        await deck.until(lambda: ("hold", "cpu", True) in deck.services.calls)


async def test_enter_opens_the_run_on_the_card_and_q_comes_back(size: Size) -> None:
    async with running(FakeServices(machine=FOUR), size) as deck:
        await opened(deck)
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.shows("Runs › support-lora-r16")
        await deck.press("m")
        await deck.until(lambda: deck.place == "MachineScreen")
        assert len(deck.app.screen_stack) == 2, "the same screen again, not another one above it"
        await deck.press("q")
        await deck.until(lambda: deck.place == "HomeScreen")


async def test_from_a_live_run_to_another_one_on_a_card() -> None:
    async with running(FakeServices(machine=FOUR)) as deck:
        await deck.press("j", "j", "enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await opened(deck)
        await deck.press("enter")
        await deck.shows("Runs › support-lora-r16")
        assert len(deck.app.screen_stack) == 2


async def test_a_card_of_somebody_else_opens_nothing() -> None:
    async with running(FakeServices(machine=FOUR)) as deck:
        await opened(deck)
        assert "Enter open run" in deck.text("#keys")
        await deck.press("j", "enter")
        await deck.until(lambda: "Enter" not in deck.text("#keys"))
        assert deck.place == "MachineScreen"


async def test_space_holds_a_card_back_and_gives_it_free(size: Size) -> None:
    async with running(FakeServices(machine=EIGHT), size) as deck:
        await opened(deck)
        await deck.press("G")
        await deck.until(lambda: "Space give free" in deck.text("#keys"))
        await deck.press("space")
        await deck.until(lambda: ("hold", "GPU-7", False) in deck.services.calls)
        await deck.shows("given free")
        await deck.press("k")
        await deck.until(lambda: "Space hold back" in deck.text("#keys"))
        await deck.press("space")
        await deck.until(lambda: ("hold", "GPU-6", True) in deck.services.calls)


async def test_a_lost_card_and_one_that_somebody_else_holds_are_left_alone() -> None:
    theirs = replace(FOUR.gpus[2], held="alice")
    machine = replace(FOUR, gpus=(*FOUR.gpus[:2], theirs, FOUR.gpus[3]))
    async with running(FakeServices(machine=machine)) as deck:
        await opened(deck)
        await deck.press("j", "j")
        await deck.shows("held back by alice")
        await deck.until(lambda: "Space" not in deck.text("#keys"))
        await deck.press("space", "j", "space")
        await deck.press("o")
        await deck.shows("cards most free memory first")
        assert not [call for call in deck.services.calls if call[0] == "hold"]


async def test_the_queue_is_moved_and_thinned_out(size: Size) -> None:
    async with running(FakeServices(machine=FOUR), size) as deck:
        await opened(deck)
        assert "J K move" not in deck.text("#keys")
        await deck.press("tab", "j")
        await deck.until(lambda: "J K move" in deck.text("#keys"))
        await deck.shows("support-lora-r64 waits for its turn behind 1")
        await deck.press("K")
        await deck.until(lambda: ("move", "k2", -1) in deck.services.calls)
        await deck.press("J")
        await deck.until(lambda: ("move", "k2", 1) in deck.services.calls)
        await deck.press("D")
        await deck.shows("Take support-lora-r64 out of the queue?")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "MachineScreen")
        assert not [call for call in deck.services.calls if call[0] == "unqueue"], "Enter keeps it"
        await deck.press("D", "D")
        await deck.until(lambda: ("unqueue", "k2") in deck.services.calls)
        await deck.press("j")
        await deck.until(lambda: "J K move" not in deck.text("#keys"), 5)
        await deck.press("K", "D", "tab")
        await deck.until(lambda: deck.widget("#cards").has_focus)
        assert len([call for call in deck.services.calls if call[0] == "move"]) == 2, "another user's run stays"


async def test_enter_in_the_queue_opens_the_waiting_run() -> None:
    async with running(FakeServices(machine=FOUR)) as deck:
        await opened(deck)
        await deck.press("tab", "j", "enter")
        await deck.shows("Runs › support-lora-r64")


async def test_the_cursor_stays_on_its_run_when_the_order_changes() -> None:
    async with running(FakeServices(machine=FOUR)) as deck:
        await opened(deck)
        await deck.press("tab", "j")
        await deck.until(lambda: "▸ 2 ○ support-lora-r64" in deck.text("#queue"))
        deck.services.machine = replace(FOUR, queue=(FOUR.queue[1], FOUR.queue[0], FOUR.queue[2]))
        await deck.shows("▸ 1 ○ support-lora-r64")
        deck.services.machine = replace(FOUR, queue=(FOUR.queue[0], FOUR.queue[2]))
        await deck.shows("▸ 1 ○ support-70b-qlora")


async def test_everything_nvml_tells(size: Size) -> None:
    async with running(FakeServices(machine=EIGHT), size) as deck:
        await opened(deck)
        await deck.press("i")
        await deck.shows(
            "GPU 0 NVIDIA H100 80GB HBM3", "VBIOS", "96.00.74.00.01", "slows down at", "driver", "process 51822"
        )
        await deck.press("escape")
        await deck.until(lambda: deck.place == "MachineScreen")


async def test_other_orders(size: Size) -> None:
    async with running(FakeServices(machine=FOUR), size) as deck:
        await opened(deck)

        def order() -> list[str]:
            rows = [row.replace("▸", " ").replace("▌", " ").split() for row in deck.text("#cards").splitlines()[1:]]
            return [row[0] for row in rows if row and row[0] in "0123"]

        assert order() == ["0", "1", "2", "3"]
        for words, cards in (
            ("most free memory", "2013"),
            ("busiest", "1023"),
            ("hottest", "1023"),
            ("by number", "0123"),
        ):
            await deck.press("o")
            await deck.shows(f"cards {words}")
            assert order() == list(cards)


async def test_a_machine_that_is_not_known_yet() -> None:
    async with running(FakeServices(machine=Machine("early"))) as deck:
        await opened(deck)
        await deck.shows("early   no GPU")
        await deck.press("space", "enter", "tab", "J", "D", "i", "o", "question_mark")
        await deck.until(lambda: deck.place == "HelpScreen")


async def test_control_characters_are_harmless() -> None:
    evil = "\x1b[2J\x1b]0;x\x07[bold]hi[/]\u202e"
    card = FOUR.gpus[1]
    process = replace(card.processes[0], name=evil, user=evil)  # type: ignore[index]
    machine = replace(FOUR, host=evil, gpus=(replace(card, name=evil, processes=(process,), held=evil, facts=((evil, evil),)),),
                      queue=(replace(FOUR.queue[0], name=evil, waits_for=evil, user=evil, mine=False),))  # fmt: skip
    async with running(FakeServices(machine=machine), (160, 48)) as deck:
        await opened(deck)
        await deck.shows("[bold]hi[/]")
        await deck.press("i")
        assert all(character.isprintable() or character == "\n" for character in deck.screen())


@pytest.mark.parametrize("name", ["none", "two", "eight"])
async def test_any_size_works(name: str) -> None:
    async with running(FakeServices(machine=MACHINES[name]), (59, 24)) as deck:
        await opened(deck)
        for width, height in [(59, 24), (40, 12), (30, 8), (24, 6), (20, 5), (8, 2), (1, 1), (119, 20), (250, 20)]:
            await deck.pilot.resize_terminal(width, height)
            await deck.press("j", "G", "tab", "j", "o", "g")
            await deck.until(lambda h=height: len(deck.screen().splitlines()) <= h)  # type: ignore[misc]
            assert all(len(row) <= width for row in deck.screen().splitlines())


async def test_40x12_has_the_short_form() -> None:
    async with running(FakeServices(machine=FOUR), (40, 12)) as deck:
        await opened(deck)
        await deck.shows("1 ours, 1 other, 1 free, 1 lost", "19.3 of 24.0   98 %", "○ support-70b-qlora", "3 runs wait")


async def test_resizing_rearranges() -> None:
    async with running(FakeServices(machine=EIGHT)) as deck:
        await opened(deck)
        await deck.pilot.resize_terminal(160, 48)
        await deck.shows("last 10 min", "Used by")
        await deck.pilot.resize_terminal(20, 5)
        await deck.pilot.resize_terminal(80, 24)
        await deck.shows("● qwen-32b-qlora", "Queue")


async def test_ascii_is_ascii(size: Size) -> None:
    async with running(FakeServices(machine=EIGHT), size, ascii=True) as deck:
        await opened(deck)
        await deck.shows("* mistral-full", "o support-70b-qlora")
        assert deck.screen().isascii()


async def test_nothing_is_drawn_without_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the queue is empty and its cursor is on nothing."""
    async with running(FakeServices(machine=TWO)) as deck:
        await opened(deck)
        deck.app._collector.stop()
        await deck.until(lambda: not any(thread.name == "collector" for thread in threading.enumerate()))
        await deck.pilot.pause()
        drawn: list[object] = []
        monkeypatch.setattr(MachineScreen, "draw", lambda _: drawn.append(1))
        for _ in range(10):
            await deck.pilot.pause()
        assert drawn == []
        await deck.press("j")
        await deck.until(lambda: drawn)


async def test_the_same_machine_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(FakeServices(machine=EIGHT), (160, 48)) as deck:
        await opened(deck)
        drawn: list[object] = []
        for name in ("cards", "queue", "processes", "card"):
            monkeypatch.setattr(deck.widget(f"#{name}"), "refresh", lambda *regions, **_: drawn.append(regions))
        before = deck.app.last
        await deck.until(lambda: deck.app.last is not before)
        await deck.pilot.pause()
        assert drawn == []
