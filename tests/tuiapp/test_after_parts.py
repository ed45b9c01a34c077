"""The parts of the screen "After training" that need no app: where panes stand, what lines say, and that nothing is too wide."""

from dataclasses import replace

import pytest
from textual.geometry import Region

from tuiapp.after_keys import KeyState, allows, main_word
from tuiapp.after_layout import after_places
from tuiapp.after_values import (
    AfterPage,
    AfterQuestion,
    AfterState,
    AnswerLine,
    EvaluationPage,
    JobLine,
    MadeLine,
    Opinion,
    Prepared,
    ScoreLine,
    Side,
)
from tuiapp.widgets.after_answers import answers_pane, paragraphs
from tuiapp.widgets.after_jobs import jobs_pane, next_pane, offers
from tuiapp.widgets.after_narrow import narrow_after
from tuiapp.widgets.after_result import result_pane, verdict_line, work_line
from tuiapp.widgets.after_rows import rows_pane
from tuiapp.widgets.pane import Look

NASTY = "\x1b[31mred\x07 \u202eabc\nnext " + "x" * 300
SCORES = tuple(
    ScoreLine(name, name, "3.102", "1.522", "-1.580", "-1.710 to -1.450", "better")
    for name in ("loss", "chrf", "bleu", "f1", "rouge")
)
EVALUATION = EvaluationPage(
    "eval-1", "finished", "loss", "Better than the base: loss 1.522 against 3.102 on 64 held-out rows, a difference of -1.580 (95 %).",
    SCORES, "No sign of forgetting.", "/d/captain.jsonl", True, 64, None, 41.0, "The judge prefers it.",
)  # fmt: skip
ROW = AnswerLine(1, "line 1", "What?", "That.", Side("No", "3.1", 4, False, 1.0, (("loss", "3.1"),)), Side("That.", "0.2", 2, True),
                 Opinion("tuned", False, 3, 9, ("It says that.",)))  # fmt: skip
PAGE = AfterPage(
    AfterQuestion("r1"), "captain", "finished", ("eval-1",), EVALUATION, (ROW,), 0, 1,
    (JobLine("eval-1", "eval", "finished", 0.0, 0.0, 41.0, outcome="Better."),),
    (MadeLine("gguf", "/d/captain.gguf", 2**27, 0.0, "ab" * 32),),
)  # fmt: skip
STATE = AfterState(PAGE, 100.0)
LINES = {"result": 7, "rows": 64, "jobs": 4, "next": 5}


class TestPlaces:
    @pytest.mark.parametrize("width", [24, 40, 60, 80, 119, 120, 160, 250])
    @pytest.mark.parametrize("height", [6, 12, 19, 20, 24, 30, 48, 100])
    @pytest.mark.parametrize("measured", [True, False])
    def test_nothing_overlaps_or_lies_outside(self, width: int, height: int, measured: bool) -> None:
        found = after_places(width, height, LINES, None, measured)
        cells: set[tuple[int, int]] = set()
        for region in found.values():
            assert Region(0, 0, width, height).contains_region(region)
            own = {(x, y) for x in range(region.x, region.right) for y in range(region.y, region.bottom)}
            assert not own & cells
            cells |= own

    def test_what_matters_most_is_always_there(self) -> None:
        assert {"result", "rows", "answers"} <= set(after_places(80, 24, LINES))
        assert {"result", "rows", "answers", "jobs", "next"} <= set(after_places(160, 48, LINES))
        assert "result" in after_places(60, 20, LINES)
        assert set(after_places(40, 12, LINES)) == {"narrow", "status", "keys"}
        assert set(after_places(23, 5, LINES)) == {"narrow"}

    def test_nothing_measured_needs_no_rows(self) -> None:
        found = after_places(80, 24, LINES, None, False)
        assert "rows" not in found
        assert "jobs" in found

    def test_zoomed_one_has_all_the_room(self) -> None:
        assert after_places(80, 24, LINES, "answers")["answers"].height == 17
        assert after_places(40, 12, LINES, "answers")["answers"].height == 10


@pytest.mark.parametrize("width", [10, 24, 40, 79, 100, 158])
@pytest.mark.parametrize("height", [1, 2, 4, 6, 12, 40])
def test_every_line_fits_and_is_clean_whatever_it_is_made_of(width: int, height: int) -> None:
    side = Side(NASTY, "3.1", 4, True, 1.0, ((NASTY, "1"),))
    row = AnswerLine(1, NASTY, NASTY, NASTY, side, Side(None), Opinion(NASTY, True, None, 2, (NASTY,)))
    evaluation = replace(EVALUATION, job=NASTY, verdict=NASTY, forgetting=NASTY, judged=NASTY, more=((NASTY, NASTY),),
                         scores=(replace(SCORES[0], label=NASTY, verdict=NASTY),), data=NASTY)  # fmt: skip
    jobs = (
        JobLine(NASTY, NASTY, "running", 0.0, phase=NASTY, done=1, total=2),
        JobLine("m", "merge", "failed", 0.0, outcome=NASTY),
    )
    page = replace(
        PAGE, name=NASTY, evaluation=evaluation, rows=(row,), jobs=jobs, made=(MadeLine(NASTY, NASTY, 1, 0.0, "ff"),)
    )
    look = Look(width, height, True)
    for state in (
        AfterState(page, 10.0),
        AfterState(replace(page, evaluation=None, rows=(), total=0), 10.0, prepared=Prepared("eval", {}, (NASTY,))),
        AfterState(replace(page, evaluation=None, rows=(), total=0, jobs=(), problem=NASTY), 10.0),
    ):
        lines = [
            *result_pane(state, look),
            *rows_pane(state, look),
            *answers_pane(state, look),
            verdict_line(state, width),
        ]
        lines += narrow_after(state, width, height)
        lines += [content for _, content in [*jobs_pane(state, look, NASTY), *next_pane(state, look, "judge")]]
        lines += [work_line(jobs[0], width)]
        for content in lines:
            assert "\x1b" not in content.plain
            assert "\u202e" not in content.plain
            assert "\n" not in content.plain
        fitted = [*result_pane(state, look), work_line(jobs[0], width)]
        assert all(content.cell_length <= width for content in fitted)


class TestResult:
    def test_in_little_room_the_first_scores_and_what_it_forgot(self) -> None:
        text = "\n".join(row.plain for row in result_pane(STATE, Look(80, 6)))
        assert "loss" in text
        assert "forgetting" in text
        assert "2 more" in text or "3 more" in text

    def test_with_room_all_of_it(self) -> None:
        text = "\n".join(row.plain for row in result_pane(STATE, Look(80, 20)))
        assert "64 rows held out of captain.jsonl" in text
        assert "more" not in text

    def test_rows_that_were_trained_on_are_called_that(self) -> None:
        page = replace(PAGE, evaluation=replace(EVALUATION, held_out=False))
        assert "which were trained on" in "\n".join(
            row.plain for row in result_pane(AfterState(page, 0.0), Look(80, 20))
        )

    def test_the_verdict_goes_without_its_interval_where_there_is_no_room(self) -> None:
        assert verdict_line(STATE, 80).plain.endswith("on 64 held-out rows.")
        assert "a difference of" in verdict_line(STATE, 160).plain


class TestRowsAndAnswers:
    def test_rows_that_are_not_at_hand_are_dashes(self) -> None:
        state = AfterState(replace(PAGE, total=500), 0.0, at=300)
        shown = [row.plain.strip() for row in rows_pane(state, Look(80, 6, scroll=298))[1:]]
        assert shown == ["–", "–", "▸ –", "–", "–"]

    def test_long_words_and_lines_of_an_answer_are_all_there(self) -> None:
        assert "".join(paragraphs("a" * 100, 20)) == "a" * 100
        assert paragraphs("one\n\ntwo", 20) == ["one", "", "two"]
        assert paragraphs("  \n ", 20) == []

    def test_an_answer_says_how_it_ended(self) -> None:
        text = "\n".join(row.plain for row in answers_pane(STATE, Look(120, 30)))
        assert "4 tokens, cut at the limit" in text
        assert "the tuned answer is better   base 3, tuned 9 of 10   asked in the other order it said otherwise" in text


class TestKeys:
    STATE = KeyState(PAGE, True, None, "rows", False, False)

    def test_what_cannot_be_done_has_no_key(self) -> None:
        assert allows("merge", self.STATE)
        assert not allows("merge", replace(self.STATE, page=replace(PAGE, adapter=False)))
        assert not allows("evaluate", replace(self.STATE, page=replace(PAGE, problem="gone")))
        assert not allows("export", replace(self.STATE, writable=False))
        assert not allows("judge", replace(self.STATE, page=replace(PAGE, evaluation=None, total=0)))
        at_work = replace(PAGE, evaluation=replace(EVALUATION, status="running"))
        assert not allows("judge", replace(self.STATE, page=at_work))
        assert [one.why for one in offers(AfterState(replace(PAGE, adapter=False), 0.0)) if one.action == "merge"] != [
            ""
        ]

    def test_stop_and_go_on_are_about_a_job(self) -> None:
        running, failed = JobLine("e", "eval", "running", 0.0), JobLine("e", "eval", "failed", 0.0)
        assert allows("stop", replace(self.STATE, job=running))
        assert not allows("go_on", replace(self.STATE, job=running))
        assert allows("go_on", replace(self.STATE, job=failed))
        assert not allows("go_on", replace(self.STATE, job=replace(failed, kind="chat"))), (
            "a chat is done by whoever holds it"
        )
        assert not allows("stop", self.STATE)

    def test_what_enter_does(self) -> None:
        assert main_word(self.STATE) == "whole row"
        assert main_word(replace(self.STATE, pane="result")) == "all of it"
        assert main_word(replace(self.STATE, zoomed=True)) == ""
        empty = replace(PAGE, evaluation=None, total=0, jobs=(), made=())
        assert main_word(KeyState(empty, True, None, "result", False, True)) == "evaluate"
        assert main_word(KeyState(empty, True, None, "result", False, False)) == ""
