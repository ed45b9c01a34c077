"""A chat: a process that answers, held by whoever talks to it, and the transcript as a job of the run.

The job is made with the first question, so that an empty chat leaves nothing behind. Whoever holds the chat holds the lock of the
job's directory; if it is killed, the process ends with its standard input, and `look_after` ends the job.
"""

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from engine import outcome
from engine.after.trained import Trained
from engine.chatting import place
from engine.chatting.bases import called, plain, refuse_others
from engine.chatting.record import Record, Words
from engine.chatting.settings import Settings as Settings
from engine.errors import RunError
from engine.fingerprint import check_base
from engine.hardware import Gpu

BASE, TUNED = "base", "tuned"
PATIENCE = 2.0
"""Seconds that the process may take to end before it is killed: it has nothing to lose."""
Event = dict[str, Any]


class Session:
    """`ask` puts a question to the voices, `poll` gives what was heard since: never waits. Use it from one thread.

    `voices` are `base` and `tuned`, with several runs `base` and the runs' names. `system` is the system prompt that the
    run was trained with, "" if there was none. Raises RunError for runs that have not the same base, and for a base that is
    gone or has changed since training (`anyway`: a note then), NoFit where no card has room.
    """

    def __init__(
        self, database: Path, trained: Sequence[Trained], cpu: bool = False, base: bool = True, anyway: bool = False
    ) -> None:
        refuse_others(trained)
        self._notes = [note for one in trained for note in check_base(one, anyway)]
        self.database, self.trained = database, list(trained)
        tuned = [TUNED] if len(trained) == 1 else called(trained)
        self.voices = [BASE] * base + tuned
        self.system = trained[0].spec.data.system or ""
        self.job: str | None = None
        self.answering = False
        self.alive, self.ready = True, False
        self._events: queue.Queue[Event] = queue.Queue()
        self._lock = threading.RLock()
        self._history: dict[str, list[dict[str, str]]] = {name: [] for name in self.voices}
        self._turns: list[_Turn] = []
        self._record: Record | None = None
        self._closing = False
        self._words = Words()
        gpus = [] if cpu else place.cards(trained)
        self._child = self._start(gpus)
        self._send({"type": "open", "base": base, "voices": [
            {"name": name, "path": str(one.path), "spec": one.spec.model_dump(mode="json"), "plain": plain(one.spec)}
            for name, one in zip(tuned, trained, strict=True)]})  # fmt: skip
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._listen, self._keep_words)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, gpus: list[Gpu]) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", "engine.worker.chat"]
        try:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.trained[0].run_dir,
                env=outcome.worker_environment(gpus), start_new_session=True, text=True, encoding="utf-8", errors="replace",
            )  # fmt: skip
        except OSError as error:
            raise RunError("The chat could not be started", f"{error}.", "") from None

    @property
    def pid(self) -> int:
        """Of the process that answers."""
        return self._child.pid

    def ask(
        self,
        text: str,
        voices: Sequence[str] | None = None,
        system: str | None = None,
        settings: Settings | None = None,
    ) -> int:
        """Put a question to all voices or some; the number of the turn. `system` None is the one of training.

        It may be asked before the models are loaded. Raises SpecError for settings that make no sense, RunError while an
        answer is being made and after the end, SpaceError if it cannot be recorded.
        """
        names = [name for name in self.voices if voices is None or name in voices]
        system, settings = self.system if system is None else system, settings or Settings()
        settings.check()
        with self._lock:
            self._refuse(names, text)
            if self._record is None:
                self._record = Record(self.database, self.trained, self.voices, self._words)
            self.job = self._record.job
            turn = _Turn(len(self._turns) + 1, text, names, settings)
            turn.rows = self._record.question(turn.number, text, system, voices=names, settings=asdict(settings))
            self._turns.append(turn)
            self.answering = True
            first = [{"role": "system", "content": system}] if system else []
            messages = {n: [*first, *self._history[n], {"role": "user", "content": text}] for n in names}
            self._send(
                {"type": "ask", "id": turn.number, "voices": names, "messages": messages, "settings": asdict(settings)}
            )
            return turn.number

    def _refuse(self, names: list[str], text: str) -> None:
        if not self.alive:
            raise RunError("The chat has ended", "The process that answers is gone.", "Begin another.")
        if self.answering:
            raise RunError("An answer is being made", "One question after the other.", "Wait for it, or stop it.")
        if not names:
            raise RunError("Nobody is asked", f"The voices are {', '.join(self.voices)}.", "")
        if not text.strip():
            raise RunError("Nothing is asked", "The question is empty.", "Write one.")

    def poll(self) -> list[Event]:
        """What was heard since the last time; does not wait."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._events.get_nowait())
        return found

    def stop(self) -> None:
        """No more of the answers to the question that is open: what there is of them stays."""
        with self._lock:
            if self.answering:
                self._send({"type": "stop", "id": self._turns[-1].number})

    def undo(self) -> str | None:
        """Take the last turn back; its question, None if there is none. Raises RunError while an answer is being made."""
        with self._lock:
            if self.answering:
                raise RunError("An answer is being made", "It cannot be taken back yet.", "Wait for it, or stop it.")
            turn = next((one for one in reversed(self._turns) if not one.undone), None)
            if turn is None:
                return None
            turn.undone = True
            for name in turn.answered:
                del self._history[name][-2:]
            if self._record:
                self._record.undo(turn.rows)
            return turn.text

    def close(self) -> None:
        """End the process and the job. Again, it does nothing."""
        if self._closing:
            return
        self._closing = True
        self._send({"type": "quit"})
        if not self.ready:  # it does not listen yet
            self._child.kill()
        with contextlib.suppress(OSError):
            self._child.stdin.close()  # type: ignore[union-attr]
        try:
            self._child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for thread in self._threads:
            thread.join(PATIENCE)
        if self._record:
            self._record.close()

    def _send(self, line: Event) -> None:
        """A process that is gone is told of by the thread that listens."""
        with contextlib.suppress(OSError, ValueError):
            self._child.stdin.write(json.dumps(line) + "\n")  # type: ignore[union-attr]
            self._child.stdin.flush()  # type: ignore[union-attr]

    def _listen(self) -> None:
        for line in self._child.stdout or ():
            with contextlib.suppress(ValueError, KeyError):
                self._heard(json.loads(line))
        code = self._child.wait()
        self._threads[1].join(PATIENCE)  # its last words
        with self._lock:
            told, self.alive, self.answering = not self.alive, False, False
        if not self._closing and not told:
            self._events.put(self._broken(code))

    def _heard(self, event: Event) -> None:
        kind = event["type"]
        with self._lock:
            if kind in ("answer", "failed") and self._record:
                self._keep(event, self._record)
            if kind == "ready":
                self.ready = True
                event["notes"] = list(dict.fromkeys([*self._notes, *event["notes"]]))
            if kind == "turn":
                self.answering = False
            if event.get("fatal"):
                self.alive = self.answering = False
        if kind == "turn" and self._record:
            self._record.into_database()
        self._events.put(event)

    def _keep(self, event: Event, record: Record) -> None:
        """An answer goes into the history of its voice, if there is one, and into the transcript."""
        turn, name = self._turns[-1], event.get("voice") or ""
        if event.get("text") or event.get("reason") in ("end", "limit", "context"):
            turn.answered.append(name)
            said = {"role": "assistant", "content": event["text"]}
            self._history[name] += [{"role": "user", "content": turn.text}, said]
        if event.get("fatal"):
            record.failure = f"{event['title']}. {event['message']}"
        elif row := record.answer(turn.number, event, asdict(turn.settings)):
            turn.rows.append(row)
        elif record.lost:
            self._events.put({"type": "notice", "text": record.lost})

    def _broken(self, code: int) -> Event:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if code == -9:
            how += ", as the system does when memory runs out"
        words = self._words.last()
        if self._record:
            self._record.failure = f"The process that answers {how}."
        return {"type": "failed", "kind": "died", "voice": None, "fatal": True, "title": "The chat has ended",
                "message": f"The process that answers {how}." + (f" Its last words: {words[-1]}" if words else ""),
                "hint": "What was said is kept. Begin another chat.", "words": words}  # fmt: skip

    def _keep_words(self) -> None:
        for line in self._child.stderr or ():
            self._words.add(line)


@dataclass
class _Turn:
    """A question, and who has answered it."""

    number: int
    text: str
    voices: list[str]
    settings: Settings
    undone: bool = False
    answered: list[str] = field(default_factory=list)
    rows: list[Event] = field(default_factory=list)
