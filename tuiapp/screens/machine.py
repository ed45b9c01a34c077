"""The machine: every card, who uses it, and the runs that wait for one."""

import math
from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from tuiapp import format as f
from tuiapp.layout import Places, is_narrow
from tuiapp.machine_layout import There, is_wide, machine_places
from tuiapp.machine_snapshot import QueueLine
from tuiapp.messages import HoldAsked, MoveAsked, OpenRun, RemoveAsked
from tuiapp.screens.base import DeckScreen
from tuiapp.screens.dialogs import Answer, AskScreen
from tuiapp.screens.facts import facts_screen
from tuiapp.snapshot import GpuLine, Machine
from tuiapp.widgets import machine_panes as panes
from tuiapp.widgets.card_use import counts, process_name, spare, who
from tuiapp.widgets.cursor_pane import CursorMoved, CursorPane
from tuiapp.widgets.head import where_line
from tuiapp.widgets.machine_cards import CPU, card_lines, card_pane, cards_pane, degrees, key_of, notes, watts, with_cpu
from tuiapp.widgets.machine_panes import MachineState
from tuiapp.widgets.pane import Pane
from tuiapp.widgets.rows import Rows, line, spread

CARDS_HELP = (
    "Every card as its driver describes it. A card is ours when one of our runs has leased it, other when somebody else's "
    "program computes on it, free when nobody does. Space holds a card back for yourself: no queued run is put on it."
)
QUEUE_HELP = (
    "Runs that wait, in turn. A later run starts before an earlier one only on cards that the earlier one cannot use. "
    "J and K change turns, D takes a run out."
)


def _low(value: float | None) -> float:
    return value if value is not None else math.inf


ORDERS: tuple[tuple[str, Callable[[GpuLine], float]], ...] = (
    ("by number", lambda card: card.index),
    ("most free memory first", lambda card: -(spare(card) if spare(card) is not None else -1.0)),  # type: ignore[operator]
    ("busiest first", lambda card: -(card.utilization if card.utilization is not None else -1.0)),
    ("hottest first", lambda card: -(card.temperature if card.temperature is not None else -1.0)),
)


class MachineScreen(DeckScreen):
    """All cards and the queue."""

    place = "Machine"
    about = "Every card of this machine, who uses it, and the runs that wait for one."

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open run", tooltip="open the run on this card, or this run of the queue"),
        Binding("tab", "to_queue", "queue", tooltip="to the queue"),
        Binding("tab", "to_cards", "cards", tooltip="back to the cards"),
        Binding("space", "hold", "hold back", tooltip="hold this card back for yourself: no queued run is put on it"),
        Binding("space", "give_free", "give free", tooltip="hold this card back no longer"),
        Binding("J", "move(1)", "move", key_display="J K", tooltip="one turn later"),
        Binding("K", "move(-1)", "earlier", show=False, tooltip="one turn earlier"),
        Binding("D", "remove", "remove", tooltip="take this run out of the queue"),
        Binding("i", "inspect", "all", tooltip="everything that is known of this card"),
        Binding("o", "order", "order", tooltip="order the cards by something else"),
        Binding("n", "new", "new", show=False, tooltip="a new run: model, data, method"),
        DeckScreen.HELP_KEY,
        Binding("q,escape", "leave", "back", id="back", tooltip="back; everything goes on"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._order = 0

    def compose(self) -> ComposeResult:
        """The panes; where they stand is decided by size and by what there is."""
        yield Rows(id="head", classes="placed")
        yield CursorPane[MachineState](cards_pane, id="cards", help_text=CARDS_HELP)
        yield Pane[MachineState](card_pane, id="card")
        yield Pane[MachineState](panes.processes_pane, id="processes")
        yield CursorPane[MachineState](panes.queue_pane, id="queue", help_text=QUEUE_HELP)
        yield Pane[MachineState](panes.days_pane, id="days")
        yield Pane[MachineState](panes.happened_pane, id="happened")
        yield Rows(id="host", classes="placed")
        yield Rows(id="status", classes="placed")
        yield Rows(id="keys", classes="placed")

    def on_mount(self) -> None:
        """The cards have the focus."""
        super().on_mount()
        self._cards.focus()

    @property
    def machine(self) -> Machine | None:
        """The machine as it was seen last."""
        return self.snapshot.machine if self.snapshot is not None else None

    @property
    def _cards(self) -> CursorPane[MachineState]:
        return self.query_one("#cards", CursorPane)

    @property
    def _queue(self) -> CursorPane[MachineState]:
        return self.query_one("#queue", CursorPane)

    @property
    def _card(self) -> GpuLine | None:
        """The card under the cursor."""
        machine = self.machine
        cards = machine.gpus if machine is not None else ()
        return next((card for card in cards if key_of(card) == self._cards.selected), cards[0] if cards else None)

    @property
    def _waiting(self) -> QueueLine | None:
        """The run under the cursor of the queue."""
        machine = self.machine
        queue = machine.queue if machine is not None else ()
        return next((one for one in queue if one.key == self._queue.selected), None)

    def places(self, width: int, height: int) -> Places:
        """See `machine_layout`."""
        machine = self.machine
        if machine is None:
            return machine_places(width, height, There(1, 0))
        card = self._card
        why = len(notes(machine, width)) + 1 + is_wide(width, height) if not machine.gpus else int(with_cpu(machine))
        there = There(
            cards=len(machine.gpus) + with_cpu(machine),
            queued=len(machine.queue),
            facts=len(card_lines(card, width)) if card is not None else 0,
            processes=max(1, len(card.processes or ())) if card is not None else 0,
            days=len(machine.days),
            happened=len(machine.happened),
            notes=why,
        )
        return machine_places(width, height, there)

    def draw(self) -> None:
        """Everything from the newest snapshot."""
        snapshot, width = self.snapshot, self.size.width
        self.query_one("#head", Rows).show(self._head(width))
        state = self._state()
        if snapshot is not None and state is not None:
            for pane in (self._cards, self._queue):
                if pane.display:
                    pane.feed(state)
            state = self._state() or state  # the cursor may have found its first card
            for name in ("card", "processes", "days", "happened"):
                if (below := self.query_one(f"#{name}", Pane)).display:
                    below.feed(state)
            host = "   ".join(panes.host_parts(snapshot.machine, False))
            self.query_one("#host", Rows).show([line((f" {host}", "$dim"))])
        self._draw_status(state)
        self.show_keys()
        if self.is_current and (self.focused is None or not self.focused.display):
            self._cards.focus()

    def _state(self) -> MachineState | None:
        if self.snapshot is None:
            return None
        machine = self.snapshot.machine
        cards = tuple(sorted(machine.gpus, key=ORDERS[self._order][1]))
        return MachineState(machine, self.snapshot.now, cards, self._card)

    def _head(self, width: int) -> list[Content]:
        machine = self.machine
        if machine is None:
            return [where_line("Machine", width)]
        if is_narrow(width, self.size.height):
            use = ", ".join(text for text, _ in counts(machine.gpus)) or "no GPU"
            return [spread(line(("Machine", "$accent")), line(use), width)]
        rows = [where_line("Machine", width, *panes.head_line(machine))]
        if is_wide(width, self.size.height):
            rows.append(line(f" {'   '.join(panes.host_parts(machine, True))}"))
        return rows

    def _draw_status(self, state: MachineState | None) -> None:
        if state is None:
            self.show_status(line((" looking at the machine …", "$dim")))
            return
        waiting = self._queue.selected if self._queue.has_focus else ""
        order = ORDERS[self._order][0] if len(state.cards) > 1 else ""
        start, end = panes.status_parts(state, waiting, order, self.size.width)
        self.show_status(spread(start, end, self.size.width))

    def on_cursor_moved(self, _: CursorMoved) -> None:
        """What is shown of the card under the cursor, and the keys, follow at once."""
        self.refresh_all()

    def on_descendant_focus(self) -> None:
        """Other keys do something in the other pane."""
        self.call_later(self.refresh_all)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing are not shown and do nothing."""
        machine = self.machine
        if machine is None or not self.is_mounted:
            return action in ("help", "leave", "new")
        in_queue = self._queue.has_focus
        if action == "open":
            return self._run_here() is not None
        if action in ("to_queue", "to_cards"):
            return self._queue.display and bool(machine.queue) and in_queue == (action == "to_cards")
        if action in ("hold", "give_free"):
            holder = self._holder(machine)
            return not in_queue and holder == ("" if action == "hold" else machine.user)
        if action in ("move", "remove"):
            waiting = self._waiting
            return in_queue and waiting is not None and waiting.mine and (action == "remove" or len(machine.queue) > 1)
        if action == "inspect":
            return not in_queue and self._card is not None
        if action == "order":
            return not in_queue and len(machine.gpus) > 1
        return True

    def _holder(self, machine: Machine) -> str | None:
        """Who holds back what is under the cursor; None for a card that cannot be."""
        if self._cards.selected == CPU:
            return machine.cpu_held
        card = self._card
        return card.held if card is not None and not card.lost else None

    def _run_here(self) -> str | None:
        """The run to open: of the queue, on the card, or on the processor; only those of this database."""
        if self._queue.has_focus:
            return self._waiting.run if self._waiting is not None and self._waiting.here else None
        machine, card = self.machine, self._card
        on_cpu = machine is not None and self._cards.selected == CPU
        leases = machine.on_cpu if on_cpu and machine is not None else card.leases if card is not None else ()
        return next((lease.run for lease in leases if lease.here), None)

    def action_open(self) -> None:
        """The run, live."""
        if (run := self._run_here()) is not None:
            self.post_message(OpenRun(run))

    def action_to_queue(self) -> None:
        """The other pane."""
        self._queue.focus()

    def action_to_cards(self) -> None:
        """The other pane."""
        self._cards.focus()

    def action_hold(self) -> None:
        """No queued run is put on it."""
        self.post_message(HoldAsked(self._cards.selected, True))

    def action_give_free(self) -> None:
        """Queued runs may have it again."""
        self.post_message(HoldAsked(self._cards.selected, False))

    def action_move(self, by: int) -> None:
        """Another turn for the run under the cursor."""
        if self._waiting is not None:
            self.post_message(MoveAsked(self._waiting.key, by))

    def action_remove(self) -> None:
        """Ask, then take it out of the queue."""
        waiting = self._waiting
        if waiting is None:
            return

        def answered(value: str | None) -> None:
            if value:
                self.post_message(RemoveAsked(waiting.key, waiting.run))

        text = "It has not begun, and nothing is lost: r in the list of runs puts it back, at the end."
        answers = (Answer("", "Keep it"), Answer("remove", "Take it out", "D"))
        self.app.push_screen(AskScreen(f"Take {f.clean(waiting.name)} out of the queue?", text, answers), answered)

    def action_inspect(self) -> None:
        """Everything that NVML tells of the card."""
        if (card := self._card) is not None:
            self.app.push_screen(facts_screen(f"GPU {card.index}   {card.name}", facts_of(card, self.machine)))

    def action_order(self) -> None:
        """Order the cards by the next thing."""
        self._order = (self._order + 1) % len(ORDERS)
        self.say(f"cards {ORDERS[self._order][0]}")

    def action_new(self) -> None:
        """The wizard."""
        self.deck.open_wizard()

    def action_leave(self) -> None:
        """Back to where one came from."""
        self.dismiss()


def facts_of(card: GpuLine, machine: Machine | None) -> list[tuple[str, str]]:
    """All figures of a card, then who is on it; what it does not tell is a dash."""
    driver = f.clean(machine.driver) if machine is not None and machine.driver else f.DASH
    cuda = f", CUDA {f.clean(machine.cuda)}" if machine is not None and machine.cuda else ""
    rows = [
        ("memory", f.of_total(card.memory_used, card.memory_total)),
        ("load", f.percent(card.utilization)),
        ("power", watts(card.power)),
        ("heat", degrees(card.temperature)),
        *card.facts,
        ("driver", f"{driver}{cuda}"),
        ("held back by", f.clean(card.held)),
    ]
    for one in card.processes or ():
        since = f", for {f.age(one.seconds)}" if one.seconds is not None else ""
        rows.append(
            (f"process {one.pid}", f"{process_name(one)}, {who(one.user, one.mine)}, {f.gib(one.gib)} GiB{since}")
        )
    return [(name, text) for name, text in rows if text]
