"""Who gets which card, and why the others wait: decisions over tickets and cards."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from engine import leases, tickets
from engine.errors import RunError
from engine.leases import CPU, read_notes, write_note
from engine.tickets import Ticket, join, leave, move, read_leases, read_tickets
from engine.waiting import Place, claims, expected, has_room, reason

FREE = Place("A", "GPU 0", 24.0, 0.3)
TAKEN = Place("B", "GPU 1", 24.0, 19.3, leased=True, runs=("mistral-full",))
ALICE = Place("C", "GPU 2", 24.0, 21.6, others=(("alice", 21.4),))
LOST = Place("D", "GPU 3", 24.0, None)
HELD = Place("E", "GPU 4", 24.0, 0.3, held="wil")


def ticket(turn: float, cards: str = "ABCDE", count: int = 1, gib: float | None = 20.0, **more: object) -> Ticket:
    return Ticket(f"r{turn:.0f}", turn, f"r{turn:.0f}", f"run-{turn:.0f}", "/db", tuple(cards), count, gib, **more)  # type: ignore[arg-type]


def got(tickets: list[Ticket], *places: Place) -> list[str]:
    """The cards that each of the tickets takes or keeps."""
    found = claims(tickets, places)
    return ["".join(found[one.key]) for one in tickets]


class TestRoom:
    def test_the_peak_and_two_percent_must_be_free(self) -> None:
        assert has_room(ALICE, 2.39)
        assert not has_room(ALICE, 2.41)
        assert ticket(1, gib=20.0).needs == 20.4

    def test_an_empty_card_has_all_the_room_there_will_ever_be(self) -> None:
        assert has_room(FREE, 23.9)
        assert has_room(FREE, 40.0), "its person wanted it in spite of the plan"

    def test_a_desktop_leaves_a_card_empty_and_a_program_does_not(self) -> None:
        assert has_room(replace(FREE, used=2.0), 23.9)
        assert not has_room(replace(FREE, used=2.0, others=(("alice", 1.7),)), 23.9)
        assert not has_room(replace(FREE, used=5.0), 23.9), "somebody whom the driver does not name"

    def test_what_is_not_known_is_no_hindrance(self) -> None:
        assert has_room(ALICE, None)
        assert has_room(Place(CPU, "CPU"), 8.0)


class TestClaims:
    def test_leased_held_lost_and_crowded_cards_are_not_taken(self) -> None:
        assert got([ticket(1)], TAKEN, ALICE, LOST, HELD) == [""]
        assert got([ticket(1)], TAKEN, ALICE, LOST, HELD, FREE) == ["A"]

    def test_in_order_of_the_turns(self) -> None:
        second, first = ticket(2), ticket(1)
        assert got([second, first], FREE) == ["", "A"]

    def test_a_run_of_two_cards_keeps_the_first_for_itself(self) -> None:
        assert got([ticket(1, count=2), ticket(2)], FREE, TAKEN) == ["A", ""]

    def test_a_later_run_may_have_what_an_earlier_one_cannot_use(self) -> None:
        assert got([ticket(1, gib=20.0), ticket(2, gib=2.0)], TAKEN, ALICE) == ["", "C"]
        assert got([ticket(1, cards="B"), ticket(2)], FREE, TAKEN) == ["", "A"]

    def test_an_empty_card_before_one_that_is_shared_and_a_small_one_before_a_large_one(self) -> None:
        large = Place("L", "GPU 9", 80.0, 0.3)
        assert got([ticket(1, "ACL", gib=2.0)], ALICE, large, FREE) == ["A"]
        assert got([ticket(1, "ACL", gib=60.0)], ALICE, large, FREE) == ["A"], "empty, and asked for"

    def test_no_ticket_takes_more_than_it_needs(self) -> None:
        cards = [replace(FREE, uuid=name) for name in "ABC"]
        assert got([ticket(1, count=2), ticket(2)], *cards) == ["AB", "C"]


class TestReason:
    @pytest.mark.parametrize(
        ("mine", "places", "words"),
        [
            (ticket(9), [TAKEN], "mistral-full to end"),
            (ticket(9), [TAKEN, replace(TAKEN, uuid="A", runs=("other",))], "a free card"),
            (ticket(9, count=2), [TAKEN, FREE], "a second free card"),
            (ticket(9, count=3), [TAKEN, FREE], "2 more free cards"),
            (ticket(9, count=2), [TAKEN, LOST], "2 free cards"),
            (ticket(9, gib=20.7), [TAKEN, ALICE], "21.1 GiB free on one card; alice uses 21.4 GiB of GPU 2"),
            (ticket(9), [HELD], "GPU 4, held back by wil"),
            (ticket(9), [FREE], "its card to stay free for 10 s"),
            (ticket(9, cards=[CPU]), [Place(CPU, "CPU", held="wil")], "the CPU, held back by wil"),  # type: ignore[arg-type]
            (ticket(9, cards=[CPU]), [Place(CPU, "CPU")], "the CPU to stay free for 10 s"),  # type: ignore[arg-type]
            (ticket(9, cards=[CPU]), [Place(CPU, "CPU", leased=True, runs=("a", "b"))], "2 runs on the CPU to end"),  # type: ignore[arg-type]
            (ticket(9, cards=[CPU]), [Place(CPU, "CPU", leased=True, runs=("a",))], "a to end"),  # type: ignore[arg-type]
        ],
    )
    def test_what_it_waits_for(self, mine: Ticket, places: list[Place], words: str) -> None:
        assert reason(mine, [mine], places) == words

    def test_whom_it_stands_behind(self) -> None:
        queue = [ticket(1), ticket(2)]
        assert reason(queue[1], queue, [FREE]) == "its turn behind 1"
        assert reason(queue[1], queue, [FREE], by_name=True) == "its turn behind run-1"

    def test_behind_is_the_one_that_has_the_card_not_the_first_of_all(self) -> None:
        queue = [ticket(1, cards="B"), ticket(2), ticket(3)]
        assert reason(queue[2], queue, [FREE, TAKEN]) == "its turn behind 2"


class TestExpected:
    def test_one_after_the_other(self) -> None:
        queue = [ticket(1, seconds=600.0), ticket(2, seconds=60.0), ticket(3)]
        found = expected(queue, [TAKEN], {"B": 1000.0}, now=100.0)
        assert [found[one.key].starts for one in queue] == [1000.0, 1600.0, 1660.0]
        assert found["r3"].cards == ("B",)

    def test_two_cards_start_when_the_later_is_free(self) -> None:
        queue = [ticket(1, count=2, seconds=10.0), ticket(2)]
        found = expected(queue, [FREE, TAKEN], {"B": 500.0}, now=100.0)
        assert (found["r1"].starts, set(found["r1"].cards)) == (500.0, {"A", "B"})
        assert found["r2"].starts == 510.0

    def test_nobody_knows_when_other_people_s_programs_end(self) -> None:
        queue = [ticket(1), ticket(2, gib=1.0)]
        found = expected(queue, [ALICE], {}, now=100.0)
        assert found["r1"].starts is None
        assert found["r2"].starts == 100.0

    def test_a_run_that_takes_longer_than_predicted_says_nothing_of_its_end(self) -> None:
        assert expected([ticket(1)], [TAKEN], {"B": 90.0}, now=100.0)["r1"].starts is None

    def test_a_run_without_a_known_length_makes_those_behind_it_unknown(self) -> None:
        queue = [ticket(1), ticket(2)]
        assert [expected(queue, [FREE], {}, 5.0)[one.key].starts for one in queue] == [5.0, None]


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


def joined(*runs: str) -> list[tuple[Ticket, int]]:
    return [join(Ticket("", 0.0, run, f"name-{run}", "/db", ("A",), 1, 2.5, 60.0, 7.0)) for run in runs]


def order() -> list[str]:
    return [one.run for one in read_tickets()]


class TestTickets:
    def test_everything_is_read_back(self) -> None:
        [(mine, fd)] = joined("one")
        assert read_tickets() == [replace(mine, user=leases.user_name(os.getuid()), mine=True)]
        assert (mine.run, mine.gib, mine.seconds, mine.since, mine.cards) == ("one", 2.5, 60.0, 7.0, ("A",))
        leave(mine, fd)
        assert read_tickets() == []

    def test_who_joins_later_stands_behind_whatever_the_clock_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        joined("one")
        monkeypatch.setattr(time, "time", lambda: 1000.0)
        joined("two", "three")
        assert order() == ["one", "two", "three"]

    def test_moved_up_and_down(self) -> None:
        three = joined("one", "two", "three")
        assert move(three[2][0].key, -1) == 2
        assert order() == ["one", "three", "two"]
        assert move(three[0][0].key, 2) == 3
        assert order() == ["three", "two", "one"]
        with pytest.raises(RunError, match="stays where it is"):
            move(three[0][0].key, 1)
        leave(*three[0])
        assert order() == ["three", "two"]

    def test_only_in_the_queue_can_it_be_moved(self) -> None:
        with pytest.raises(RunError, match="not in the queue"):
            move("gone-1", 1)

    def test_another_user_s_run_is_not_passed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One's own runs exchange their turns around it."""
        three = joined("one", "theirs", "three")
        read = tickets.read_tickets
        monkeypatch.setattr(tickets, "read_tickets", lambda: [replace(t, mine=t.run != "theirs") for t in read()])
        move(three[2][0].key, -1)
        assert order() == ["three", "theirs", "one"]
        with pytest.raises(RunError, match="another user"):
            move(three[1][0].key, -1)

    def test_a_ticket_that_nobody_holds_is_removed(self, locks: Path) -> None:
        [(_, fd)] = joined("one")
        os.close(fd)
        assert read_tickets() == []
        assert list(locks.iterdir()) == []

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", '"x"', "{}", "[" * 60000,
         json.dumps({"run": 1, "name": 2, "database": 3, "count": 1, "gib": 1, "cards": []}),
         json.dumps({"run": 1, "name": 2, "database": 3, "since": 1, "count": 0, "gib": 1, "cards": []}),
         json.dumps({"run": 1, "name": 2, "database": 3, "since": 1, "count": "many", "gib": 1, "cards": []})],
    )  # fmt: skip
    def test_nonsense_is_no_ticket(self, text: str, locks: Path) -> None:
        fd = write_note("wait-1.000000-x", {})
        os.truncate(fd, 0)
        os.pwrite(fd, text.encode(), 0)
        write_note("wait-nonsense", {})
        assert read_tickets() == []
        assert read_leases() == []
        os.close(fd)

    def test_names_are_cleaned_and_odd_numbers_are_unknown(self) -> None:
        fields = {"run": "r", "name": "\x1b[31mred\nname", "database": "/db", "since": 1, "count": 1, "cards": ["A"]}
        fd = write_note("wait-1.000000-x", fields | {"gib": float("nan"), "seconds": "soon"})
        [found] = read_tickets()
        assert (found.name, found.gib, found.seconds) == ("red name", None, None)
        os.close(fd)

    def test_links_and_pipes_are_not_followed(self, locks: Path, tmp_path: Path) -> None:
        [(_, fd)] = joined("one")
        (locks / "wait-2.000000-link").symlink_to(next(locks.glob("wait-*")))
        os.mkfifo(locks / "wait-3.000000-pipe")
        assert order() == ["one"]
        os.close(fd)

    def test_without_a_directory_there_is_no_queue(self) -> None:
        assert (read_notes("wait"), read_leases()) == ([], [])
        assert not leases.is_leased("A")
        assert leases.holder("A") == ""


class TestHold:
    def test_held_back_until_it_is_given_free(self) -> None:
        leases.hold("GPU-1/2")
        leases.hold("GPU-1/2")
        assert leases.holder("GPU-1/2") == leases.user_name(os.getuid())
        leases.give_free("GPU-1/2")
        assert leases.holder("GPU-1/2") == ""
        leases.give_free("GPU-1/2")
