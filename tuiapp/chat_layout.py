"""Where the parts of the chat screen stand, and its conversation as lines: pure functions of a snapshot and a size."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from rich.cells import cell_len, chop_cells
from textual.content import Content
from textual.geometry import Region

from engine import text as text_of
from tuiapp import format as f
from tuiapp.chat_settings import SETTINGS
from tuiapp.chat_snapshot import HALTED, Answer, ChatSnapshot, Turn, Voice
from tuiapp.layout import Places, is_narrow
from tuiapp.widgets.rows import Part, fit, line, spread

COLUMN = 40
"""Cells that an answer needs beside others."""
MANY = 0.25
"""The share of repetition that is set off."""
OTHER = "ctrl+n other "
LEVEL = 4
"""Lines that a column waits for a longer one, so that they end alike."""
PROBLEM = 6
"""Lines about what one voice could not do."""
INVITATION = "Ask something: all answer it, one after the other."
YOU = " You   "
INPUT = len(YOU)
LONG = 80
"""Cells from which on the words of the sampling are whole."""
LABEL = 12
"""Cells of the words before the system prompt and the sampling."""


def columns(width: int, height: int, voices: int) -> int:
    """How many answers stand beside each other."""
    if is_narrow(width, height):
        return 1
    return max(1, min(voices, max(2, width // COLUMN)))


def shown_voices(voices: Sequence[Voice], at: int, count: int) -> tuple[int, ...]:
    """The indices of those that have a column: the base first and the adapters from `at` on; alone, one after the other."""
    if len(voices) <= count:
        return tuple(range(len(voices)))
    tuned = list(range(1, len(voices)))
    if count == 1:
        return ((*tuned, 0)[at % len(voices)],)
    return 0, *(tuned[(at + i) % len(tuned)] for i in range(count - 1))


def cells(width: int, count: int) -> list[int]:
    """The cells of each column; between two stands a line."""
    each = (width - (count - 1)) // count
    return [each] * (count - 1) + [width - (count - 1) - each * (count - 1)]


def chat_places(width: int, height: int, typing: str = "", failed: bool = False) -> Places:
    """Head, voices, conversation, question, settings, status and keys. `typing` is the field with the focus: where there is
    room for one line of input only, that one."""
    if height < 6 or width < 24:
        return {"talk": Region(0, 0, width, height)}
    places = {"status": Region(0, height - 2, width, 1), "keys": Region(0, height - 1, width, 1)}
    if is_narrow(width, height):
        places |= {"head": Region(0, 0, width, 1), "voices": Region(0, 1, width, 1)}
        places["talk"] = Region(0, 2, width, height - (4 if failed else 5))
        if not failed:
            places["form"] = Region(0, height - 3, width, 1)
            places |= _one_field(typing or "question", width, height - 3)
        return places
    places |= {"head": Region(0, 0, width, 2), "voices": Region(0, 3, width, 2)}
    if failed:
        return places | {"talk": Region(0, 5, width, height - 8)}
    places |= {"talk": Region(0, 5, width, height - 12), "form": Region(0, height - 6, width, 4)}
    places["question"] = Region(INPUT, height - 6, width - INPUT - 1, 1)
    places["system"] = Region(LABEL, height - 4, width - LABEL - 1, 1)
    x = LABEL
    for name, before, room, after in _sampling(width):
        x += len(before)
        places[name] = Region(x, height - 3, room, 1)
        x += room + len(after)
    return places


def _one_field(name: str, width: int, y: int) -> Places:
    start = INPUT if name == "question" else len(_word(name)) + 2
    return {name: Region(start, y, max(4, width - start - 1), 1)}


def _word(name: str) -> str:
    return next((one.word for one in SETTINGS if one.field == name), name)


def _sampling(width: int) -> list[tuple[str, str, int, str]]:
    """The fields of the sampling: name, the words before it, its cells, the words after it."""
    if width < LONG:
        return [(one.field, f"{one.short} ", 5, "" if one is SETTINGS[-1] else "  ") for one in SETTINGS]
    after = {"most": " tokens  ", "seed": ""}
    return [(one.field, f"{one.word} ", one.cells, after.get(one.field, "  ")) for one in SETTINGS]


def form_lines(width: int, height: int, typing: str) -> list[Content]:
    """The words before the fields; as high as their place."""
    if is_narrow(width, height):
        return [line((YOU, "$accent") if typing in ("", "question") else (f" {_word(typing)} ", "$dim"))]
    parts: list[Part] = [(f"{' Sampling':<{LABEL}}", "$dim")]
    parts += [(f"{before}{' ' * room}{after}", "$dim") for _, before, room, after in _sampling(width)]
    return [line((YOU, "$accent")), line(""), line((f"{' System':<{LABEL}}", "$dim")), line(*parts)]


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells, safe to draw: line ends and indentation are kept, words that are too long are cut."""
    width = max(1, width)
    found: list[str] = []
    for paragraph in text_of.clean(text).expandtabs(4).split("\n"):
        found += _paragraph(paragraph.rstrip(), width)
    while found and not found[-1]:
        found.pop()
    while found and not found[0]:
        found.pop(0)
    return found


def _paragraph(text: str, width: int) -> list[str]:
    indent = text[: len(text) - len(text.lstrip())][: width // 2]
    lines, now = [], indent
    for word in text.split():
        for piece in chop_cells(word, max(1, width - len(indent))) if cell_len(word) > width - len(indent) else [word]:
            gap = " " if now.strip() else ""
            if now.strip() and cell_len(now) + 1 + cell_len(piece) > width:
                lines.append(now)
                now, gap = indent, ""
            now += gap + piece
    return [*lines, now.rstrip()]


@dataclass(frozen=True)
class Frame:
    """The room of the conversation and the voices in it, by index."""

    width: int
    shown: tuple[int, ...]

    @property
    def cells(self) -> list[int]:
        """Of each column."""
        return cells(self.width, len(self.shown))


def beside(parts: Sequence[Content], frame: Frame) -> Content:
    """One line of all columns."""
    joined: list[Part] = []
    for i, (part, room) in enumerate(zip(parts, frame.cells, strict=True)):
        joined += [("│", "$dim")] if i else []
        joined.append(fit(part, room))
    return line(*joined)


def blank(frame: Frame) -> Content:
    """A line with nothing but what stands between the columns."""
    return beside([line("")] * len(frame.shown), frame)


def voices_line(chat: ChatSnapshot, frame: Frame) -> Content:
    """Who speaks in which column, and how many there are besides."""
    tuned = sum(not one.is_base for one in chat.voices)
    parts = []
    for i, room in zip(frame.shown, frame.cells, strict=True):
        one = chat.voices[i]
        more = f" {i} of {tuned}" if i and tuned > len(frame.shown) - (0 in frame.shown) and tuned > 1 else ""
        step = f", step {one.step:,}" if one.step is not None else ""
        start = line(" ", ("Base" if one.is_base else "Tuned", "bold"), (more, "$dim"), "   ")
        room -= len(OTHER) if len(frame.shown) == 1 < len(chat.voices) else 0
        name = f.clip(f.clean(one.name), max(1, room - start.cell_length - 1))
        over = room - start.cell_length - cell_len(name) - 1
        parts.append(line(start, name, (step if len(step) <= over else "", "$dim")))
    if len(frame.shown) == 1 < len(chat.voices):
        return spread(parts[0], line((OTHER, "$dim")), frame.width)
    return beside(parts, frame)


def opening_lines(chat: ChatSnapshot, frame: Frame) -> list[Content]:
    """Over the conversation: what one should know of it, and before it begins what one can do."""
    rows: list[Content] = []
    for texts in (chat.notes, () if chat.turns else (INVITATION,)):
        said = [part for text in texts for part in wrapped(text, frame.width - 2)]
        rows += [fit(line((f" {part}", "$dim")), frame.width) for part in said]
        rows += [blank(frame)] if said else []
    return rows


def talk_lines(chat: ChatSnapshot, frame: Frame) -> list[Content]:
    """The whole conversation, or what there is before it begins."""
    rows = opening_lines(chat, frame)
    for i, turn in enumerate(chat.turns):
        rows += turn_lines(turn, frame, chat.is_answering and i == len(chat.turns) - 1)
    return rows


@lru_cache(maxsize=256)
def turn_lines(turn: Turn, frame: Frame, is_open: bool) -> list[Content]:
    """A question over the whole width, the answers under it, and how each ended."""
    return [*_asked(turn, frame), *_side_by_side(_blocks(turn, frame, is_open), frame), blank(frame)]


def _asked(turn: Turn, frame: Frame) -> list[Content]:
    texts = wrapped(turn.question, frame.width - INPUT - 1) or [""]
    starts = [(YOU, "$accent"), *[(" " * INPUT, "")] * (len(texts) - 1)]
    return [*(fit(line(start, text), frame.width) for start, text in zip(starts, texts, strict=True)), blank(frame)]


def _blocks(turn: Turn, frame: Frame, is_open: bool) -> list[list[Content]]:
    """What stands in each column. How it ended stands in one line with the others, if none has to go far down for that."""
    rooms = [(i, room - 2) for i, room in zip(frame.shown, frame.cells, strict=True)]
    said = [_said(turn, i, room, is_open) for i, room in rooms]
    highest = max((len(rows) for rows in said), default=0)
    found = []
    for rows, (i, room) in zip(said, rooms, strict=True):
        down = highest - len(rows) if highest - len(rows) <= LEVEL else 0
        end = _end(turn.answers[i], room)
        found.append([*rows, *[line("")] * (down + 1), *end] if end else rows)
    return found


@dataclass(frozen=True)
class Newest:
    """Of a conversation: the line of the last question, and the one after what was said last."""

    start: int
    end: int


def newest(chat: ChatSnapshot, frame: Frame) -> Newest:
    """Where one looks: at whoever speaks, or has spoken last."""
    start = len(opening_lines(chat, frame)) + sum(len(turn_lines(turn, frame, False)) for turn in chat.turns[:-1])
    if not chat.turns:
        return Newest(0, start)
    last = chat.turns[-1]
    blocks = dict(zip(frame.shown, _blocks(last, frame, chat.is_answering), strict=True))
    begun = [i for i in frame.shown if last.answers[i].text or last.answers[i].end] or list(frame.shown[:1])
    return Newest(start, start + len(_asked(last, frame)) + len(blocks[begun[-1]]) + 1)


def _side_by_side(blocks: Sequence[Sequence[Content]], frame: Frame) -> list[Content]:
    height = max((len(one) for one in blocks), default=0)
    return [beside([one[y] if y < len(one) else line("") for one in blocks], frame) for y in range(height)]


def _said(turn: Turn, index: int, width: int, is_open: bool) -> list[Content]:
    """What a voice says, or why it cannot; before its first word, whether it is its turn."""
    answer = turn.answers[index]
    rows = [line(f" {text}") for text in wrapped(answer.text, width)]
    if answer.problem is not None:
        rows += [line((f" {text}", "$bad")) for text in wrapped(f"✗ {answer.problem.title}", width)]
        about = f"{answer.problem.message} {answer.problem.hint}"
        rows += [line((f" {text}", "$dim")) for text in wrapped(about, width)[:PROBLEM]]
    if not rows and answer.end and answer.end != HALTED:
        rows = [line((" (nothing)", "$dim"))]
    if not rows and is_open:
        is_first = all(one.end for one in turn.answers[:index])
        rows = [line((" …" if is_first else " waits for its turn", "$dim"))]
    return rows


def _end(answer: Answer, width: int) -> list[Content]:
    """`28 tokens, stopped by itself` and `36.9 tok/s   repeats: 0 %`, in a line where there is room."""
    if not answer.end:
        return []
    if answer.tokens is None or (answer.end == HALTED and not answer.tokens):
        return [line((f" {answer.end}", "$dim"))]
    first = line((f" {f.count(answer.tokens)} token{'' if answer.tokens == 1 else 's'}, {answer.end}", "$dim"))
    if not answer.tokens:
        return [first]
    repeats = answer.repetition
    share = f"repeats: {f.percent(repeats * 100 if repeats is not None else None)}"
    much = repeats is not None and repeats >= MANY
    second = line((f"{_speed(answer)} tok/s   ", "$dim"), (share, "$warn" if much else "$dim"))
    if first.cell_length + second.cell_length + 3 <= width:
        return [line(first, "   ", second)]
    return [first, line(" ", second)]


def _speed(answer: Answer) -> str:
    return f"{answer.tokens / answer.seconds:.1f}" if answer.tokens and answer.seconds else f.DASH


def followed(top: int, room: int, seen: Newest, grows: bool) -> int:
    """The first line in view, so that what is said is, and the question where that is possible. Over SSH every move costs the
    whole pane: while it grows it moves by half the room at once."""
    least = max(0, seen.end - room)
    more = room // 2 if grows else 0
    if seen.start < least:
        return top if grows and least <= top <= least + more else least + more
    return top if least <= top <= seen.start else min(seen.start, least + more)


def status_words(chat: ChatSnapshot, waiting: str, width: int) -> str:
    """The usual text of the status line. `waiting`: a question that was put before the model was there."""
    if chat.state == "failed":
        return "What was said is kept with the run." if chat.turns else "Nothing was asked."
    if chat.state == "loading":
        then = "; then your question is put" if waiting else ""
        return f"{f.clean(chat.phase) or 'loads the model'} …{then}"
    if chat.state == "stopping":
        return "stopping the answer …"
    if is_narrow(width, 100):
        return "saved with the run"
    switched = "the adapter" if len(chat.voices) < 3 else f"{len(chat.voices) - 1} adapters"
    held = f"One base in memory, {switched} switched on and off."
    return f"{held if chat.loads == 1 else f'{chat.loads} models in memory.'} Saved with the run."


def problem_lines(chat: ChatSnapshot, width: int) -> list[Content]:
    """What went wrong, calmly, and what helps."""
    problem = chat.problem
    if problem is None:
        return []
    room = max(10, width - 6)
    rows = [line((f" ✗ {f.clip(f.clean(problem.title), width - 4)}", "bold $bad")), line("")]
    rows += [line(f"   {text}") for text in wrapped(problem.message, room)[:6]]
    rows += [line(""), line(("   What helps", "bold"))]
    rows += [line(f"   {text}") for text in wrapped(problem.hint, room)[:4]]
    if problem.no_room:
        rows.append(line(("   Enter", "$accent"), "   on the processor, slowly"))
    again = "load it again, for a new conversation" if chat.turns else "try again"
    return [*rows, line(("   r", "$accent"), f"       {again}")]


def copied(chat: ChatSnapshot) -> str:
    """The last question and its answers as plain text."""
    last = chat.turns[-1]
    said = [
        f"{f.clean(voice.name)}:\n{text_of.clean(one.text)}"
        for voice, one in zip(chat.voices, last.answers, strict=True)
    ]
    return "\n\n".join([text_of.clean(last.question), *said])
