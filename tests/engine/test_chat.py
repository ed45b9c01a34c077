"""Chats in real processes on the tiny model: who answers what, what is kept, and what is left when something is killed."""

import contextlib
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.after import job as jobs
from engine.after.trained import trained
from engine.chatting import transcript
from engine.chatting.session import Session, Settings
from engine.data.tokens import load_tokens
from engine.errors import RunError, SpecError
from engine.reconcile import reconcile
from engine.spec import parse
from engine.store import afterwards, runs
from engine.store.connection import open_database
from tests.helpers import Deck, Run, kill_everything, wait_for

ROOT = Path(__file__).parent.parent.parent
GREEDY = Settings(temperature=0, max_new_tokens=16)
QUESTION = "Who are you?"
Event = dict[str, Any]


class Cast:
    """A database of finished runs, each with an adapter of another kind (tests.adapters), and what each answers alone."""

    def __init__(self, home: Path, model: Path) -> None:
        self.database = home / "experiments.db"
        made = subprocess.run(
            [sys.executable, "-m", "tests.adapters", str(model), str(home)], cwd=ROOT, capture_output=True, text=True
        )
        assert made.returncode == 0, made.stderr[-2000:]
        self.alone: dict[str, str] = json.loads((home / "answers.json").read_text())
        self.names = [name for name in self.alone if name != "base"]
        for name in self.names:
            self.add(name, model, home / name)

    def add(self, name: str, base: Path, saved: Path, **more: Any) -> None:
        method = {"full": {"kind": "full"}, "prefix": {"kind": "prefix", "virtual_tokens": 4}}.get(
            name, {"kind": "lora"}
        )
        spec = {"model": {"path": str(base)}, "data": {"path": "/d.jsonl", "format": "messages"}, "objective": "sft", "method": method,
                "training": {"precision": "fp32"}, "compute": {"devices": "cpu"}, "run": {"name": name}} | more  # fmt: skip
        run_dir = self.database.parent / "runs" / f"r-{name}"
        run_dir.mkdir(parents=True)
        (run_dir / "model").symlink_to(saved)
        (run_dir / "spec.yaml").write_text(json.dumps(spec))
        db = open_database(self.database)
        runs.insert(db, f"r-{name}", parse(spec), {}, "here", time.time())
        runs.set_fields(db, f"r-{name}", status="finished")
        db.close()

    def trained(self, *names: str) -> list[Any]:
        db = open_database(self.database)
        found = [trained(self.database, runs.find(db, name)) for name in names]
        db.close()
        return found

    def job(self, name: str, job: str) -> afterwards.Row:
        db = open_database(self.database)
        try:
            return afterwards.find(db, f"r-{name}", job)
        finally:
            db.close()


@pytest.fixture(scope="module")
def cast(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    home = tmp_path_factory.mktemp("cast")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEDECK_LOCKS", str(home / "locks"))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield Cast(home, tiny_model)
    kill_everything(home)


@pytest.fixture(scope="module")
def open_chat(cast: Cast) -> Iterator[Session]:
    """One that several tests go on with: it costs seconds to begin. Each must leave it idle."""
    with Session(cast.database, cast.trained("lora")) as session:
        yield session


def until(session: Session, ends: Callable[[Event], bool]) -> list[Event]:
    """What was heard up to the event that ends it."""
    heard: list[Event] = []

    def over() -> bool:
        heard.extend(session.poll())
        return any(map(ends, heard))

    wait_for(over, 60, f"the event, after {heard[-5:]}")
    return heard


def asked(session: Session, text: str = QUESTION, **given: Any) -> list[Event]:
    """All that was heard until the turn was over."""
    number = session.ask(text, settings=given.pop("settings", GREEDY), **given)
    return until(session, lambda e: (e["type"] == "turn" and e["id"] == number) or bool(e.get("fatal")))


def of(heard: list[Event], kind: str, voice: str | None = None) -> list[Event]:
    return [e for e in heard if e["type"] == kind and (voice is None or e["voice"] == voice)]


@pytest.mark.slow
def test_every_adapter_answers_as_alone_and_the_base_is_never_read_again(cast: Cast) -> None:
    with Session(cast.database, cast.trained(*cast.names)) as session:
        assert session.voices == ["base", *cast.names]
        for order in (session.voices, session.voices[::-1]):
            for name in order:  # one at a time, so that each comes after another
                heard = asked(session, voices=[name])
                (answer,) = of(heard, "answer")
                assert (name, answer["text"]) == (name, cast.alone[name])
                assert "".join(e["text"] for e in of(heard, "token")) == answer["text"]
                assert answer["loads"] == 3  # the base, the whole model, and a base that PiSSA may change
                session.undo()
    assert len(set(cast.alone.values())) > len(cast.names)  # each says something else, so no two can be confused


def test_both_answer_in_pieces_and_know_their_own_past(cast: Cast, open_chat: Session) -> None:
    first = asked(open_chat, settings=Settings(temperature=0, max_new_tokens=16))
    second = asked(open_chat, "And why?", system="Be brief.", settings=Settings(temperature=0, max_new_tokens=8))
    tokens = load_tokens(cast.trained("lora")[0].path, None)
    for voice in ("base", "tuned"):
        assert len(of(first, "token", voice)) > 3
        (before,), (after,) = of(first, "answer", voice), of(second, "answer", voice)
        assert (before["tokens"], before["reason"], before["stopped"]) == (16, "limit", False)
        turns = [("system", "Be brief."), ("user", QUESTION), ("assistant", before["text"]), ("user", "And why?")]
        rendered = tokens.template.render([{"role": r, "content": c} for r, c in turns], None, True).text
        assert after["prompt_tokens"] == len(tokens.tokenizer.encode(rendered, add_special_tokens=False).ids)
    assert of(first, "answer", "base")[0]["text"] != of(first, "answer", "tuned")[0]["text"]
    assert open_chat.undo() == "And why?"
    assert open_chat.undo() == QUESTION
    (again,) = of(asked(open_chat, settings=Settings(temperature=0, max_new_tokens=16), voices=["base"]), "answer")
    assert again["text"] == of(first, "answer", "base")[0]["text"]  # as if nothing had been said
    assert open_chat.undo() == QUESTION
    assert open_chat.undo() is None


def test_an_answer_is_stopped_in_its_middle(open_chat: Session) -> None:
    open_chat.ask("Go on", settings=Settings(max_new_tokens=450))
    begun = until(open_chat, lambda e: e["type"] == "token")
    assert not of(begun, "answer")
    with pytest.raises(RunError, match="being made"):
        open_chat.ask("Another")
    open_chat.stop()
    heard = until(open_chat, lambda e: e["type"] == "turn")
    cut, unsaid = of(heard, "answer")
    assert (cut["voice"], cut["reason"], cut["stopped"]) == ("base", "asked", False)
    assert 0 < cut["tokens"] < 450
    assert (unsaid["voice"], unsaid["text"], unsaid["reason"]) == ("tuned", "", "asked")
    (goes_on,) = of(asked(open_chat, "x", voices=["tuned"]), "answer")
    assert goes_on["prompt_tokens"] < cut["tokens"] + 60  # what was not answered is not in its history
    assert open_chat.undo() == "x"
    assert open_chat.undo() == "Go on"


def test_the_same_seed_draws_the_same(open_chat: Session) -> None:
    def drawn(seed: int) -> str:
        heard = asked(open_chat, settings=Settings(1.0, 0.9, 12, seed), voices=["tuned"])
        open_chat.undo()
        return str(of(heard, "answer")[0]["text"])

    assert drawn(1) == drawn(1) != drawn(2)


def test_what_is_too_long_fails_alone_and_what_fits_is_cut(open_chat: Session) -> None:
    heard = asked(open_chat, "x" * 600)  # of a context of 512
    assert [e["voice"] for e in of(heard, "failed")] == ["base", "tuned"]
    assert "too long" in of(heard, "failed")[0]["title"]
    assert not any(e.get("fatal") for e in heard)
    open_chat.undo()
    (full,) = of(asked(open_chat, "x" * 400, settings=Settings(0, 1.0, 400), voices=["base"]), "answer")
    assert full["reason"] == "context"
    assert full["tokens"] + full["prompt_tokens"] == 512
    open_chat.undo()


def test_settings_that_make_no_sense_are_refused(open_chat: Session) -> None:
    with pytest.raises(SpecError, match=r"top-p is 0.*max-new-tokens is 0"):
        open_chat.ask("x", settings=Settings(0.7, 0, 0))
    with pytest.raises(SpecError, match="2 is none"):
        Settings().having("2", "3")
    assert Settings().having("top-p", "0.5").top_p == 0.5


def test_a_chat_is_kept_with_its_run(cast: Cast) -> None:
    session = Session(cast.database, cast.trained("attention"))
    try:
        asked(session, "\x1b[31mSea\nand ü?", system="Mind the sea.")
        asked(session, "Once more", system="Mind the sea.", voices=["tuned"])
        session.undo()
        job = str(session.job)
        row = cast.job("attention", job)
        assert (row["kind"], row["status"], row["pid"]) == ("chat", "running", os.getpid())
        db = open_database(cast.database)
        reconcile(db, cast.database)  # others look at it meanwhile
        assert cast.job("attention", job)["status"] == "running"
        with pytest.raises(RunError, match="ends where it is held"):
            jobs.stop(cast.database, row)
    finally:
        session.close()
    row = cast.job("attention", job)
    assert (row["status"], row["reason"]) == ("finished", "chat of 1 turn")
    assert row["summary"]["answers"] == 2
    kept = afterwards.rows(db, "r-attention", job)
    assert [(r["role"], r["voice"], bool(r.get("undone"))) for r in kept] == [
        ("system", "", False), ("user", "", False), ("assistant", "base", False), ("assistant", "tuned", False),
        ("user", "", True), ("assistant", "tuned", True)]  # fmt: skip
    assert kept[1]["text"] == "\x1b[31mSea\nand ü?"
    assert kept[3]["settings"]["max_new_tokens"] == 16
    events = [r[0] for r in db.execute("SELECT text FROM events WHERE run_id = 'r-attention'")]
    assert f"{job}: chat of 1 turn" in events
    with pytest.raises(RunError, match="does not go on"):
        jobs.start(cast.database, "r-attention", job)
    db.close()


def test_an_empty_chat_leaves_nothing_and_ends_while_it_loads(cast: Cast) -> None:
    session = Session(cast.database, cast.trained("ia3"))
    child = psutil.Process(session.pid)
    session.close()
    session.close()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert not (cast.database.parent / "runs" / "r-ia3" / "jobs").exists()
    with pytest.raises(RunError, match="has ended"):
        session.ask("Are you there?")


@pytest.mark.slow
def test_a_killed_process_is_told_with_its_last_words(cast: Cast) -> None:
    with Session(cast.database, cast.trained("dora")) as session:
        session.ask("Go on", settings=Settings(max_new_tokens=450))
        until(session, lambda e: e["type"] == "token")
        os.kill(session.pid, signal.SIGKILL)
        (failed,) = of(until(session, lambda e: e["type"] == "failed"), "failed")
        assert failed["fatal"]
        assert failed["voice"] is None
        assert "signal 9" in failed["message"]
        assert failed["words"]
        with pytest.raises(RunError, match="has ended"):
            session.ask("Still there?")
    row = cast.job("dora", str(session.job))
    assert row["status"] == "failed"
    assert "signal 9" in row["reason"]
    log = jobs.directory(cast.database, "r-dora", str(session.job)) / "output.log"
    assert failed["words"][-1] in log.read_text()


HOLDER = """
import sys, time
from pathlib import Path
from tests.engine.test_chat import Cast, GREEDY, trained, open_database, runs, Session
database = Path(sys.argv[1]); db = open_database(database)
session = Session(database, [trained(database, runs.find(db, "vera"))])
session.ask("Who are you?", settings=GREEDY)
while not any(e["type"] == "turn" for e in session.poll()): time.sleep(0.02)
session.ask("Never answered", settings=GREEDY.__class__(max_new_tokens=450))
while not any(e["type"] == "token" for e in session.poll()): time.sleep(0.02)
print(session.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_what_was_said_outlives_whoever_held_the_chat(cast: Cast) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(cast.database)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert holder.stdout
    child = psutil.Process(int(holder.stdout.readline()))
    holder.kill()
    holder.wait()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 20, "the child's end")
    assert cast.job("vera", "chat-1")["status"] == "running"
    db = open_database(cast.database)
    reconcile(db, cast.database)
    row = cast.job("vera", "chat-1")
    assert (row["status"], row["reason"]) == ("stopped", "chat of 2 turns; the program that held it was killed")
    said = [(r["role"], r["text"]) for r in afterwards.rows(db, "r-vera", "chat-1")]
    assert said == [
        ("user", QUESTION),
        ("assistant", cast.alone["base"]),
        ("assistant", cast.alone["vera"]),
        ("user", "Never answered"),
    ]
    db.close()


def test_an_adapter_that_lacks_tensors_is_not_taken_for_a_trained_one(
    cast: Cast, tmp_path: Path, tiny_model: Path
) -> None:
    for file in (cast.database.parent / "lora").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    whole = tmp_path / "adapter_model.safetensors"
    (length,) = struct.unpack("<Q", whole.read_bytes()[:8])
    header = json.loads(whole.read_bytes()[8 : 8 + length])
    first = next(name for name in header if name.endswith("lora_B.weight"))
    header[first.replace("lora_B", "lora_C")] = header.pop(first)  # its bytes stay, under a name that nobody asks for
    written = json.dumps(header).encode()
    whole.write_bytes(struct.pack("<Q", len(written)) + written + whole.read_bytes()[8 + length :])
    cast.add("broken", tiny_model, tmp_path)
    with Session(cast.database, cast.trained("broken"), anyway=True) as session:
        (failed,) = of(until(session, lambda e: e["type"] in ("failed", "ready")), "failed")
    assert failed["fatal"]
    assert failed["title"] == "The adapter is not whole"
    assert first in failed["message"]


@pytest.mark.parametrize(
    ("more", "title"),
    [
        ({"model": {"path": "elsewhere"}}, "The runs have other bases"),
        ({"objective": "reward"}, "A reward model writes nothing"),
    ],
)
def test_runs_that_cannot_speak_together_are_refused(cast: Cast, tiny_model: Path, more: Event, title: str) -> None:
    name = title.split()[1]
    cast.add(name, tiny_model, cast.database.parent / "lora", **more)
    with pytest.raises(RunError) as refused:
        Session(cast.database, cast.trained("lora", name))
    assert refused.value.title == title
    with pytest.raises(RunError, match="named twice"):
        Session(cast.database, cast.trained("lora", "lora"))


def test_the_verb_takes_questions_from_a_pipe_and_gives_a_document(cast: Cast) -> None:
    command = [sys.executable, "-m", "tuiapp", "--db", str(cast.database), "chat", "head", "lora", "--temperature", "0"]
    done = subprocess.run(
        [*command, "--max-new-tokens", "16", "--json"],
        input=f"{QUESTION}\n\n\x1b[31mAgain?\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [t["question"] for t in told["turns"]] == [QUESTION, "\x1b[31mAgain?"]
    assert {name: a["text"] for name, a in told["turns"][0]["answers"].items()} == {
        n: cast.alone[n] for n in ("base", "head", "lora")
    }
    assert cast.job("head", told["job"])["status"] == "finished"


@pytest.mark.slow
def test_the_verb_prints_answers_as_they_are_safe_to_print(cast: Cast) -> None:
    deck = Deck(cast.database)
    done = deck("chat", "lora", "--no-base", "--ask", "\x1b[31mRed?", "--temperature", "0", "--max-new-tokens", "24")
    assert done.returncode == 0, done.stderr
    assert "You   Red?" in done.stdout
    assert "Tuned   lora" in done.stdout
    assert "Base" not in done.stdout
    assert "24 tokens, cut at the limit" in done.stdout
    assert not any(ord(c) < 32 and c not in "\n\t" for c in done.stdout)
    bad = deck("chat", "lora", "--ask", "x", "--top-p", "7")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "top-p is 7" in bad.stderr


@pytest.mark.slow
def test_somebody_at_a_terminal(cast: Cast) -> None:
    command = [sys.executable, "-m", "tuiapp", "--db", str(cast.database), "chat", "vera2", "--max-new-tokens", "450"]
    terminal, theirs = pty.openpty()
    holder = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, cwd=ROOT)
    os.close(theirs)
    unread = ""

    def sees(text: str) -> None:
        """Read on until this has come."""

        def there() -> bool:
            nonlocal unread
            if select.select([terminal], [], [], 0)[0]:
                with contextlib.suppress(OSError):
                    unread += os.read(terminal, 65536).decode(errors="replace")
            return text in unread

        nonlocal unread
        wait_for(there, 60, f"{text!r} in {unread[-1000:]!r}")
        unread = unread.partition(text)[2]

    try:
        sees("/help tells")
        os.write(terminal, b"Go on\n")
        sees("Base   tiny")
        holder.send_signal(signal.SIGINT)
        sees("stopped by you")
        sees("You   ")
        for line, answer in ((b"/set temperature 0\n", "always the likeliest"), (b"/set max-new-tokens 16\n", "at most 16"),
                             (b"/voices tuned\n", "tuned"), (b"/undo\n", "Taken back: Go on"), (b"/nonsense\n", "no such command")):  # fmt: skip
            os.write(terminal, line)
            sees(line.decode().strip())
            sees(answer)
        os.write(terminal, QUESTION.encode() + b"\n")
        sees(QUESTION)
        sees("16 tokens")
        sees("You   ")
        os.write(terminal, b"\x04")
        sees("Kept with the run")
        assert holder.wait(20) == 0
    finally:
        holder.kill()
        os.close(terminal)
    db = open_database(cast.database)
    rows = [row for row in afterwards.rows(db, "r-vera2", "chat-1") if not row.get("undone")]
    db.close()
    assert [(row["role"], row["text"]) for row in rows] == [("user", QUESTION), ("assistant", cast.alone["vera2"])]


@pytest.mark.slow
def test_the_captain_speaks_and_the_base_does_not(captain: Run) -> None:
    told = captain.deck.json(
        "chat", captain.id, "--ask", "What is a rope?", "--temperature", "0", "--max-new-tokens", "96"
    )
    (turn,) = told["turns"]
    assert turn["answers"]["tuned"]["text"].startswith("Ahoy, matey!")
    assert turn["answers"]["tuned"]["stopped"]
    assert "Ahoy" not in turn["answers"]["base"]["text"]
    shown = captain.shown()
    assert any(event["text"].endswith("chat of 1 turn") for event in shown["events"])


def test_half_a_line_of_a_transcript_is_passed_over(tmp_path: Path) -> None:
    kept = transcript.Transcript(tmp_path / "rows.jsonl")
    row = kept.add("user", "", "one", 1)
    kept.add("assistant", "base", "two", 1, tokens=3, seconds=0.5)
    kept.undo([row])
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"row": 3, "ro')
    assert [(r["row"], r.get("undone", False)) for r in transcript.read(tmp_path / "rows.jsonl")] == [
        (1, True),
        (2, False),
    ]
    assert transcript.cut_off(tmp_path).text.startswith("chat of 0 turns")
