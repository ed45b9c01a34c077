"""The conversation as lines: wrapped, beside each other, followed; and what the engine tells, told again."""

from dataclasses import replace

import pytest
from rich.cells import cell_len
from textual.geometry import Region

from tests.tuiapp.fake_chat import READY, TURN, answer, token
from tests.tuiapp.fakes import runs
from tuiapp import chat_layout as layout
from tuiapp import chat_snapshot as talk
from tuiapp.chat_layout import Frame, Newest
from tuiapp.chat_runs import can_chat, chosen
from tuiapp.chat_settings import sampling_of, texts_of
from tuiapp.chat_snapshot import Answer, ChatSnapshot, Problem, Sampling, Turn, Voice

VOICES = (Voice("base", "Llama-3.1-8B"), Voice("tuned", "support", "a", 414), Voice("other", "tone", "b"))
WIDE = "模型说话 " * 9
ESCAPES = "one\x1b[2J\x1b]0;owned\x07 two\u202e\tthree"
SIZES = [(80, 24), (160, 48), (40, 12), (59, 19), (60, 20), (24, 6), (23, 5), (1, 1), (300, 1), (20, 200)]


def chat(*answers: Answer, question: str = "What now?", state: str = "ready") -> ChatSnapshot:
    return ChatSnapshot(VOICES[: len(answers)], (Turn(question, answers),), state)


def text(chat: ChatSnapshot, width: int = 80, shown: tuple[int, ...] = (0, 1)) -> str:
    return "\n".join(row.plain.rstrip() for row in layout.talk_lines(chat, Frame(width, shown)))


SAID = Answer("You should contact the store.", 96, 2.5, 0.41, "cut at the limit")
BRIEF = Answer("Keep the kettle.", 28, 0.7, 0.0, "stopped by itself")


def test_answers_stand_beside_each_other_with_how_they_ended() -> None:
    shown = text(chat(SAID, BRIEF))
    assert " You   What now?" in shown
    assert "You should contact the store.         │ Keep the kettle." in shown
    assert "96 tokens, cut at the limit           │ 28 tokens, stopped by itself" in shown
    assert "38.4 tok/s   repeats: 41 %            │ 40.0 tok/s   repeats: 0 %" in shown
    assert "28 tokens, stopped by itself   40.0 tok/s   repeats: 0 %" in text(chat(SAID, BRIEF), 160)


def test_much_repetition_is_set_off_and_little_is_not() -> None:
    rows = layout.talk_lines(chat(SAID, BRIEF), Frame(160, (0, 1)))
    styles = [(row.plain[span.start : span.end], span.style) for row in rows for span in row.spans]
    assert ("repeats: 41 %", "$warn") in styles
    assert ("repeats: 0 %", "$dim") in styles


@pytest.mark.parametrize("width", [1, 2, 3, 7, 10, 37, 38, 120])
@pytest.mark.parametrize(
    "said", [WIDE, ESCAPES, "x" * 500, "", "\n\n", "a\n\n    b c\n", "\u0301e\u0301" * 40, " " * 100]
)
def test_no_line_is_wider_than_its_room_or_steers_the_terminal(said: str, width: int) -> None:
    rows = layout.wrapped(said, width)
    assert all(cell_len(row) <= max(width, 2) for row in rows), rows  # a wide character cannot be halved
    assert all(row.isprintable() for row in rows)


def test_line_ends_and_indentation_stay() -> None:
    assert layout.wrapped("Do this:\n\n  1. one two\n\tthree\n\n", 11) == [
        "Do this:",
        "",
        "  1. one",
        "  two",
        "    three",
    ]


def test_nothing_of_a_long_answer_is_lost() -> None:
    words = [f"word{i}" for i in range(400)]
    assert " ".join(layout.wrapped(" ".join(words), 38)).split() == words
    assert "".join(layout.wrapped("模" * 101, 38)) == "模" * 101


@pytest.mark.parametrize("width", [24, 40, 79, 80, 81, 159, 160, 300])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_line_fills_the_width(width: int, count: int) -> None:
    made = chat(
        replace(SAID, text=WIDE + ESCAPES), BRIEF, replace(SAID, problem=Problem(WIDE, ESCAPES)), question=WIDE * 3
    )
    made = replace(made, notes=(WIDE, ESCAPES))
    frame = Frame(width, tuple(range(count)))
    for row in [*layout.talk_lines(made, frame), layout.voices_line(made, frame)]:
        assert row.cell_length == width, row.plain


def test_columns_are_as_many_as_there_is_room_for() -> None:
    assert [layout.columns(width, 48, 5) for width in (59, 60, 80, 120, 160, 200)] == [1, 2, 2, 3, 4, 5]
    assert layout.columns(160, 48, 2) == 2
    assert layout.columns(160, 12, 5) == 1


def test_other_adapters_come_beside_the_base() -> None:
    assert layout.shown_voices(VOICES, 0, 3) == (0, 1, 2)
    assert [layout.shown_voices(VOICES, at, 2) for at in (0, 1, 2, -1)] == [(0, 1), (0, 2), (0, 1), (0, 2)]
    assert [layout.shown_voices(VOICES, at, 1) for at in range(4)] == [(1,), (2,), (0,), (1,)]


def test_which_adapter_it_is_stands_in_its_head() -> None:
    made = chat(SAID, BRIEF, BRIEF)
    assert "Tuned 1 of 2   support, step 414" in layout.voices_line(made, Frame(80, (0, 1))).plain
    assert " of " not in layout.voices_line(made, Frame(160, (0, 1, 2))).plain
    assert "ctrl+n other" in layout.voices_line(made, Frame(40, (2,))).plain


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("typing", ["question", "system", "most"])
def test_places_do_not_overlap_and_stay_on_the_screen(size: tuple[int, int], failed: bool, typing: str) -> None:
    places = layout.chat_places(*size, typing, failed)
    whole = Region(0, 0, *size)
    assert places["talk"].height >= 1
    fields = {"question", "system", "temperature", "top_p", "most", "seed"}
    for name, one in places.items():
        assert min(one.size) >= 1, name
        assert whole.contains_region(one), (name, one)
        others = [(key, other) for key, other in places.items() if key != name and "form" not in (key, name)]
        assert not [key for key, other in others if one.overlaps(other)], name
        if name in fields:
            assert places["form"].contains_region(one), name
    assert not (failed and fields & set(places))


def test_the_words_stand_before_their_fields() -> None:
    rows, places = layout.form_lines(80, 24, "question"), layout.chat_places(80, 24)
    at_most, seed = places["most"], places["seed"]
    assert rows[3].plain[: at_most.x].endswith("at most ")
    assert rows[3].plain[at_most.right :].startswith(" tokens")
    assert rows[3].plain[: seed.x].endswith("seed ")
    assert rows[2].plain[: places["system"].x].split() == ["System"]
    assert layout.form_lines(40, 12, "top_p")[0].plain == " top-p "


def test_the_view_follows_what_is_said_and_moves_seldom() -> None:
    room, moved, top = 12, 0, 0
    for end in range(1, 60):
        before, top = top, layout.followed(top, room, Newest(0, end), grows=True)
        assert top <= max(0, end - 1)
        assert end <= top + room
        moved += top != before
    assert moved <= 60 / (room // 2)
    assert layout.followed(top, room, Newest(0, 59), grows=False) == 59 - room


def test_a_new_question_stays_in_view_as_long_as_its_answer_has_room() -> None:
    assert layout.followed(0, 12, Newest(30, 34), grows=True) <= 30
    assert layout.followed(26, 12, Newest(30, 36), grows=True) == 26
    assert layout.followed(26, 12, Newest(30, 41), grows=True) == 30
    assert layout.followed(48, 12, Newest(30, 34), grows=True) <= 30  # another voice begins at the top


def test_where_one_looks_is_who_speaks() -> None:
    long = replace(SAID, text="word " * 200)
    frame = Frame(80, (0, 1))
    alone = layout.newest(chat(long, Answer(), state="answering"), frame)
    both = layout.newest(chat(long, replace(BRIEF, end=""), state="answering"), frame)
    assert alone.end > both.end > both.start


def test_who_has_not_begun_waits() -> None:
    assert " …                                     │ waits for its turn" in text(
        chat(Answer(), Answer(), state="answering")
    )
    begun = chat(SAID, Answer(), state="answering")
    assert "waits" not in text(begun)
    assert "│ …" in text(begun)
    assert "(nothing)" in text(chat(SAID, Answer(tokens=0, end="stopped by itself")))
    assert "(nothing)" not in text(chat(SAID, Answer(tokens=0, end="stopped by you")))


def test_what_was_told_becomes_the_conversation() -> None:
    made = talk.heard(ChatSnapshot(VOICES[:2]), {"type": "phase", "text": "loads Llama"})
    assert (made.state, made.phase) == ("loading", "loads Llama")
    made = talk.asked(talk.heard(made, READY), "Why?")
    assert made.state == "answering"
    for event in [token("base", "Be"), token("base", "cause"), token("nobody", "x"), {"type": "news"}, {}]:
        made = talk.heard(made, event)
    assert made.turns[-1].answers[0] == Answer("Because")
    for reason, end in talk.ENDS.items():
        ended = talk.heard(made, answer("base", "Because.", reason, 3)).turns[-1].answers[0]
        assert (ended.text, ended.tokens, ended.end) == ("Because.", 3, end)
    made = talk.heard(talk.heard(made, answer("tuned", "So.")), TURN)
    assert made.state == "ready"
    assert made.turns[-1].answers[0].end == talk.BROKEN


def test_one_voice_that_fails_leaves_the_others() -> None:
    failed = {
        "type": "failed",
        "voice": "base",
        "title": "The conversation is too long",
        "message": "It has 9 tokens.",
        "hint": "u",
    }
    made = talk.heard(talk.asked(ChatSnapshot(VOICES[:2], state="ready"), "Why?"), failed)
    made = talk.heard(talk.heard(made, answer("tuned", "So.")), TURN)
    assert made.state == "ready"
    assert made.problem is None
    assert "✗ The conversation is too long        │ So." in text(made)


def test_a_process_that_is_gone_leaves_what_was_said() -> None:
    made = talk.heard(talk.asked(ChatSnapshot(VOICES[:2], state="ready"), "Why?"), token("base", "Bec"))
    made = talk.heard(
        made, {"type": "failed", "voice": None, "fatal": True, "title": "The chat has ended", "message": "Killed."}
    )
    assert made.state == "failed"
    assert made.turns[-1].answers[0] == Answer("Bec", end=talk.BROKEN)
    shown = "\n".join(row.plain for row in layout.problem_lines(made, 80))
    assert "✗ The chat has ended" in shown
    assert "Killed." in shown
    assert "load it again" in shown


def test_a_question_can_be_taken_back() -> None:
    made = talk.asked(talk.asked(ChatSnapshot(VOICES[:2]), "Why?"), "How?")
    assert talk.undone(made).questions == ("Why?",)


@pytest.mark.parametrize(
    ("field", "typed", "wrong"),
    [
        ("temperature", "2.1", "temperature is a number from 0 to 2"), ("temperature", "nan", "temperature is a number"),
        ("temperature", "", "temperature is a number"), ("top_p", "0", "top-p is a number from 0.01 to 1"),
        ("most", "0.5", "at most is a whole number from 1 to 8,192"), ("most", "1e3", "at most is a whole number"),
        ("seed", "-1", "seed is a whole number from 0 to 4,294,967,295"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_told(field: str, typed: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        sampling_of(texts_of(Sampling()) | {field: typed})


def test_settings_are_as_they_are_typed() -> None:
    typed = {"temperature": "0,5", "top_p": ".95", "most": "12", "seed": "7"}
    assert sampling_of(typed) == Sampling(0.5, 0.95, 12, 7)
    assert sampling_of(texts_of(Sampling())) == Sampling()


def test_chats_are_with_runs_of_one_base_that_have_ended() -> None:
    first = next(run for run in runs() if run.status == "finished")
    same, at_work, other = (
        replace(first, id="x"),
        replace(first, id="y", status="running"),
        replace(first, id="z", model="else"),
    )
    assert chosen(first, [first, same, at_work, other]) == ((first.id, "x"), 2)
    assert not can_chat(replace(first, imported=True))
    assert not can_chat(replace(first, status="queued"))
