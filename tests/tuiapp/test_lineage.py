"""The lineage screen: a family drawn, walked through, opened and compared, at two sizes and in very little room."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from engine.errors import RunError
from engine.lineage import Attempt, Change, Node, lines
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import NOW, FakeServices
from tuiapp.lineage_layout import lineage_places
from tuiapp.messages import CompareAsked
from tuiapp.screens.lineage import LineageScreen
from tuiapp.widgets.lineage_panes import LineageState, above, find, path_to, step_pane, tree_pane
from tuiapp.widgets.pane import Look

Size = tuple[int, int]
RANK, RATE = Change("method.rank", 8, 16), Change("training.learning_rate", 2e-4, 1e-4)
HALF = Change("training.micro_batch", 4, 2)


def family() -> Node:
    """A run with a fork that was resumed and has forks itself, a sweep's point, and one that is in the bin."""
    last = Node("mbx3q7", "run", "support-lora-r16", "running", (RATE,), created_at=NOW - 1980, forked=True)
    resumed = (Attempt(1, 1.0, "", (), "oom"), Attempt(2, 2.0, "checkpoint-120", (HALF,), "finished"))
    middle = Node(
        "mbx2k1",
        "run",
        "support-lora-r32",
        "finished",
        (RANK,),
        resumed,
        (last,),
        NOW - 7200,
        3240.0,
        1.131,
        forked=True,
    )
    thrown = Node("gone1", "run", "bad idea", "failed", (), in_bin=True, forked=True)
    first = Node("mbx1z0", "run", "support-lora-r8", "finished", (Change("method.rank", None, 8, True),), (), (middle, thrown), NOW - 18000, 3060.0, 1.187, starred=True)  # fmt: skip
    return Node("s1", "sweep", "rank x lr", "finished", children=(first,))


@pytest.fixture
def services() -> FakeServices:
    return FakeServices(family=lambda _: family())


async def opened(deck: Driver) -> LineageScreen:
    """From Home, with the cursor on the first run of the list."""
    await deck.until(lambda: "support-lora-r16" in deck.screen())
    await deck.press("L")
    await deck.until(lambda: deck.place == "LineageScreen")
    await deck.shows("best eval", "rank x lr")
    screen = deck.app.screen
    assert isinstance(screen, LineageScreen)
    return screen


async def test_the_tree_and_the_step_under_the_cursor(size: Size, services: FakeServices) -> None:
    async with running(services, size) as deck:
        await opened(deck)
        assert services.calls == [("lineage", "mbx3q7")]
        shown = deck.text("#tree").split("\n")
        assert [row.strip(" ▸◆").split("  ")[0] for row in shown[1:]] == [
            "+ rank x lr",
            "└ ✓ ★ support-lora-r8",
            "├ ✓ support-lora-r32",
            "│ ├ attempt 2 from checkpoint-120: micro_batch 4 → 2",
            "│ └ ● support-lora-r16",
            "└ ✗ bad idea",
        ]
        assert "lr 2e-4 → 1e-4" in shown[5]
        assert "▸" in shown[5], "the cursor is on the run that it was opened for"
        assert "1.131  rank 8 → 16" in shown[3]
        assert "in the bin" in shown[6]
        step = deck.text("#step")
        assert "a fork of support-lora-r32" in step
        assert "2e-4 → 1e-4" in step
        assert all(len(row) <= size[0] for row in deck.screen().split("\n"))


async def test_walked_through(services: FakeServices) -> None:
    async with running(services) as deck:
        await opened(deck)
        await deck.press("k")
        await deck.until(lambda: "attempt 2 from checkpoint-120" in deck.text("#step"))
        assert "micro_batch  4 → 2" in deck.text("#step")
        await deck.press("g")
        await deck.until(lambda: "sweep of 1 run, " in deck.text("#step"))
        await deck.press("j")
        await deck.until(lambda: "a point of the sweep rank x lr" in deck.text("#step"))


async def test_enter_opens_the_run_and_back_leads_here(size: Size, services: FakeServices) -> None:
    async with running(services, size) as deck:
        await opened(deck)
        await deck.press("k", "k", "enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.shows("support-lora-r32")
        await deck.press("L")
        await deck.until(lambda: deck.place == "LineageScreen")
        assert sum(isinstance(one, LineageScreen) for one in deck.app.screen_stack) == 1
        await deck.until(lambda: "support-lora-r32   mbx2k1" in deck.text("#step"))
        await deck.press("q")
        await deck.until(lambda: deck.place == "HomeScreen")


async def test_from_a_live_run_and_to_another(services: FakeServices) -> None:
    async with running(services) as deck:
        await deck.until(lambda: "support-lora-r16" in deck.screen())
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.press("L")
        await deck.shows("what changed")
        await deck.press("k", "k", "enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.shows("support-lora-r32")
        await deck.press("q")
        await deck.until(lambda: deck.place == "HomeScreen")


async def test_the_way_that_led_here_is_compared_or_what_is_marked(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    async with running(services) as deck:
        screen = await opened(deck)
        real: Callable[..., bool] = screen.post_message

        def post(message: object) -> bool:
            if isinstance(message, CompareAsked):
                asked.append(message.run_ids)
                return True
            return real(message)

        monkeypatch.setattr(screen, "post_message", post)
        await deck.shows("c compares the 3 runs that lead here")
        await deck.press("c")
        await deck.until(lambda: asked == [("mbx1z0", "mbx2k1", "mbx3q7")])
        await deck.press("space")
        await deck.shows("1 marked")
        await deck.press("c")
        await deck.press("g", "j", "space")
        await deck.shows("2 marked")
        await deck.press("c")
        await deck.until(lambda: len(asked) == 2)
        assert asked[1] == ("mbx1z0", "mbx3q7"), "one alone is not compared; in the order of the tree"


async def test_what_cannot_be_read_is_a_sentence(services: FakeServices) -> None:
    def gone(_: str) -> Node:
        raise RunError("There is no such run", "It was purged.", "")

    services.family = gone
    async with running(services) as deck:
        await deck.until(lambda: "support-lora-r16" in deck.screen())
        await deck.press("L")
        await deck.shows("There is no such run: It was purged.")
        await deck.press("enter", "space", "c", "j", "q")
        await deck.until(lambda: deck.place == "HomeScreen")


async def test_it_is_read_again_when_something_happens(services: FakeServices) -> None:
    async with running(services) as deck:
        await opened(deck)
        grown = family()
        services.family = lambda _: replace(grown, name="another name")
        services.lines = services.lines[1:]
        await deck.shows("another name")


async def test_in_very_little_room(services: FakeServices) -> None:
    for size in [(40, 12), (24, 6), (20, 4), (1, 1)]:
        async with running(services, size) as deck:
            await deck.press("L")
            await deck.until(lambda deck=deck: deck.place == "LineageScreen")
            await deck.press("k", "j", "space")


async def test_in_ascii(services: FakeServices) -> None:
    async with running(services, ascii=True) as deck:
        await deck.until(lambda: "support-lora-r16" in deck.screen())
        await deck.press("L")
        await deck.shows("what changed", "attempt 2")
        assert deck.screen().isascii()
        assert "` v support-lora-r8" in deck.screen().replace("* ", "")


async def test_without_a_run_there_is_no_lineage() -> None:
    async with running(FakeServices(lines=())) as deck:
        await deck.press("L")
        await deck.pilot.pause()
        assert deck.place == "HomeScreen"


class TestPanes:
    def test_names_are_cleaned_and_every_line_fits(self) -> None:
        odd = replace(family(), name="\x1b[31mred\n" + "x" * 200)
        for width in (20, 60, 80, 160):
            state = LineageState(odd, "mbx3q7", selected="s1", now=NOW)
            drawn = [content for _, content in tree_pane(state, Look(width, 20), "s1")] + step_pane(
                state, Look(width, 9)
            )
            assert not any("\x1b" in one.plain or "\n" in one.plain for one in drawn)
            assert all(content.cell_length <= width for _, content in tree_pane(state, Look(width, 20), "s1"))

    def test_a_run_that_is_gone(self) -> None:
        gone = Node("old", "gone", "old", children=(Node("a", "run", "a", "finished", forked=False),))
        state = LineageState(gone, "a", selected="a", now=NOW)
        texts = [content.plain for _, content in tree_pane(state, Look(80, 20), "a")]
        assert "deleted, or never here" in texts[1]
        assert any("a fork of a deleted run, old" in one.plain for one in step_pane(state, Look(80, 9)))

    def test_found_by_key(self) -> None:
        root = family()
        assert find(root, "nobody") is None
        keys = [one.node.id for one in lines(root)]
        assert keys == ["s1", "mbx1z0", "mbx2k1", "mbx2k1", "mbx3q7", "gone1"]
        assert [node.id for node in path_to(root, "mbx3q7")] == ["s1", "mbx1z0", "mbx2k1", "mbx3q7"]
        assert above(root, root.key) is None

    @pytest.mark.parametrize(
        "size", [(1, 1), (23, 30), (40, 12), (80, 24), (119, 30), (120, 30), (160, 48), (300, 100)]
    )
    def test_panes_stand_inside_the_screen_and_apart(self, size: Size) -> None:
        places = [one for one in lineage_places(*size).values() if one.area]
        for one in places:
            assert one.x >= 0 and one.y >= 0 and one.right <= size[0] and one.bottom <= size[1]  # noqa: PT018
        for i, one in enumerate(places):
            assert not any(one.overlaps(other) for other in places[i + 1 :])
