"""The verb `chat`: talk with what a run has trained and with its base, in lines."""

import argparse
import dataclasses
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.after.trained import trained
from engine.chatting.settings import NAMES, Settings
from engine.chatting.talk import Turn, as_markdown, failure, footer, heading
from engine.errors import RunError, SpaceError, SpecError, TuneDeckError
from engine.fingerprint import at
from engine.store import runs
from engine.text import clean

if TYPE_CHECKING:
    from engine.chatting.session import Session

Options = argparse.Namespace
TICK = 0.02
HELP = """  /system TEXT        the system prompt; alone: what it is; "/system -" takes it away
  /set NAME VALUE     temperature, top-p, max-new-tokens or seed; alone: all of them
  /voices [NAME]...   who answers; alone: who there is
  /undo               take the last turn back
  /retry              ask it again, with another seed
  /save FILE          the chat as Markdown; the transcript is kept with the run in any case
  /quit               end; Ctrl+D too. Ctrl+C stops an answer
  //text              a question that begins with a slash"""


def add_verb(verb: Any) -> None:
    chat_ = verb("chat", chat, "talk with runs and with their base, in lines; --ask and pipes for scripts")
    chat_.add_argument(
        "run", nargs="+", metavar="RUN", help="id, unique beginning of one, or name; several of one base"
    )
    chat_.add_argument(
        "--step", type=int, metavar="N", help="the checkpoint of this step, not what was saved at the end"
    )
    chat_.add_argument("--system", metavar="TEXT", help="a system prompt; without: that of training, if there was one")
    for name, field in NAMES.items():
        kind = type(getattr(Settings, field))
        chat_.add_argument(
            f"--{name}", type=kind, metavar="X" if kind is float else "N", help=f"{getattr(Settings, field)} if open"
        )
    chat_.add_argument(
        "--ask", action="append", default=[], metavar="TEXT", help="a question; again for more turns, then it ends"
    )
    chat_.add_argument("--no-base", action="store_true", help="do not ask the base model")
    chat_.add_argument(
        "--base", nargs="?", const=None, metavar="PATH", help="ask the base too, as is usual; PATH: where it lies now"
    )
    chat_.add_argument("--anyway", action="store_true", help="go on though the base has changed since training")
    chat_.add_argument("--cpu", action="store_true", help="not on a card")


def chat(options: Options) -> int:
    from engine import cli
    from engine.chatting.session import Session

    by_hand = not options.ask and sys.stdin.isatty()
    if options.json and by_hand:
        raise SpecError(
            "Nothing is asked", "--json is for scripts.", "Give questions with --ask, or lines on standard input."
        )
    given = {field: getattr(options, field) for field in NAMES.values() if getattr(options, field) is not None}
    settings = Settings(**given)
    settings.check()
    db, database = cli.opened(options), cli.database(options)
    found = [at(trained(database, runs.find(db, name), options.step), options.base) for name in options.run]
    db.close()
    with Session(database, found, cpu=options.cpu, base=not options.no_base, anyway=options.anyway) as session:
        talk = Talk(session, settings, options.system, quiet=options.json)
        talk.wait_ready()
        asked = iter(options.ask) if options.ask else typed() if by_hand else piped()
        if by_hand:
            print("Write, and press Enter. /help tells what else there is; Ctrl+D ends.", file=sys.stderr)
        for line in asked:
            talk.take(line) if by_hand else talk.put(line)
            if talk.over:
                break
    if options.json:
        cli.emit(talk.document())
    elif session.job:
        print(f"\nKept with the run: tunedeck jobs {found[0].run_id} ({session.job})", file=sys.stderr)
    return 1 if talk.failed else 0


def typed() -> Iterator[str]:
    """Lines that somebody writes, until Ctrl+D."""
    import readline  # noqa: F401 - makes input() remember and edit lines

    while True:
        try:
            line = input("\nYou   ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\nCtrl+D ends the chat.", end="", file=sys.stderr)
            continue
        if line.strip():
            yield line.strip()


def piped() -> Iterator[str]:
    """One question a line."""
    for line in sys.stdin:
        if line.strip():
            yield line.strip()


class Talk:
    """What is printed and asked: one turn after the other. `over`: it has come to its end."""

    def __init__(self, session: "Session", settings: Settings, system: str | None, quiet: bool) -> None:
        self.session, self.settings, self.quiet = session, settings, quiet
        self.system = session.system if system is None else system
        self.voices = list(session.voices)
        self.turns: list[Turn] = []
        self.ready: dict[str, Any] = {}
        self.failed = self.over = False

    def wait_ready(self) -> None:
        """Raises RunError with why it cannot begin."""
        while not self.ready:
            for event in self._heard():
                if event["type"] == "ready":
                    self.ready = event
                elif event["type"] == "failed":
                    error = RunError(event["title"], event["message"], event["hint"])
                    error.exit_code = 1
                    raise error
                elif event["type"] == "phase":
                    self._aside(event["text"])
        ready = self.ready
        self._aside(f"{ready['base']} on {ready['device']}; chat template: {ready['template']}")
        for note in ready["notes"]:
            self._aside(note)
        if not self.quiet:
            print(clean(f"  {self.settings.sentence()}", False), file=sys.stderr)

    def take(self, line: str) -> None:
        """A line that somebody wrote: a question or a command. Errors are told, and it goes on."""
        try:
            if line.startswith("/") and not line.startswith("//"):
                self._command(*line[1:].partition(" ")[::2])
            else:
                self.put(line.removeprefix("/") if line.startswith("//") else line, echo=False)
        except TuneDeckError as error:
            self._aside(f"{error.title}: {error.message} {error.hint}")

    def put(self, question: str, echo: bool = True) -> None:
        """Ask, and print what is answered as it comes. Ctrl+C stops the answer; once more, and it ends."""
        self.session.ask(question, self.voices, self.system, self.settings)
        turn = Turn(question, self.system, self.settings)
        self.turns.append(turn)
        if echo:
            self._print(f"\nYou   {question}\n")
        # An exception could come between two events and lose what was heard
        asked: list[int] = []
        before = signal.signal(signal.SIGINT, lambda number, _frame: asked.append(number))
        try:
            self._answers(turn, asked)
        finally:
            signal.signal(signal.SIGINT, before)

    def _answers(self, turn: Turn, asked: list[int]) -> None:
        """Until the turn is over; `asked` has the interrupts that came meanwhile."""
        stopped = False
        while True:
            if len(asked) > 1:
                raise KeyboardInterrupt
            if asked and not stopped:
                self.session.stop()
                stopped = True
            for event in self._heard():
                turn.hear(event)
                self._show(event, turn)
                if event["type"] == "turn" or event.get("fatal"):
                    self.over = bool(event.get("fatal"))
                    return

    def _show(self, event: dict[str, Any], turn: Turn) -> None:
        name = event.get("voice")
        if event["type"] in ("token", "answer", "failed") and name and turn.begins(name):
            self._print(f"\n{heading(name, self.session.trained, self.session.voices, self.ready['base'])}\n")
        if event["type"] == "token":
            self._print(event["text"])
        elif event["type"] == "answer":
            self._print(f"\n  {footer(event)}\n")
        elif event["type"] == "notice":
            self._aside(event["text"])
        elif event["type"] == "failed":
            self.failed = True
            print(clean(f"\n{failure(event)}"), file=sys.stderr)

    def _heard(self) -> list[dict[str, Any]]:
        found = self.session.poll()
        if not found:
            time.sleep(TICK)
        return found

    def _command(self, name: str, rest: str) -> None:
        rest = rest.strip()
        match name:
            case "quit" | "exit" | "q":
                self.over = True
            case "help" | "?":
                self._print(HELP + "\n")
            case "system":
                self.system = "" if rest == "-" else rest or self.system
                self._aside(f"System   {self.system or 'none'}")
            case "set":
                setting, _, value = rest.partition(" ")
                self.settings = self.settings.having(setting, value.strip()) if setting else self.settings
                self._aside(self.settings.sentence())
            case "voices":
                self._choose(shlex.split(rest) if rest.count('"') % 2 == 0 else [rest])
            case "undo":
                self._undo()
            case "retry":
                self._retry()
            case "save":
                self._save(rest)
            case _:
                raise SpecError("There is no such command", f"/{name} is none.", "See: /help")

    def _choose(self, names: list[str]) -> None:
        if unknown := [name for name in names if name not in self.session.voices]:
            raise SpecError(
                "There is no such voice", f"{unknown[0]} is none.", f"There are {', '.join(self.session.voices)}."
            )
        self.voices = names or self.voices
        for name in self.session.voices:
            self._aside(f"{'•' if name in self.voices else ' '} {name}")

    def _undo(self) -> str:
        question = self.session.undo()
        if question is None:
            raise SpecError("There is nothing to take back", "Nothing was asked.", "")
        self.turns.pop()
        self._aside(f"Taken back: {question}")
        return question

    def _retry(self) -> None:
        question = self._undo()
        if self.settings.temperature:
            self.settings = dataclasses.replace(self.settings, seed=self.settings.seed + 1)
        self._aside(self.settings.sentence())
        self.put(question, echo=False)

    def _save(self, name: str) -> None:
        if not name:
            raise SpecError("Where to?", "/save needs the name of a file.", "As in: /save chat.md")
        path = Path(name).expanduser()
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(as_markdown(self.turns, ", ".join(one.name for one in self.session.trained)))
        except OSError as error:
            raise SpaceError(
                "The chat cannot be saved there", f"{path}: {error.strerror}.", "Name another file."
            ) from None
        self._aside(f"Saved in {path}")

    def document(self) -> dict[str, Any]:
        """What --json prints."""
        kept = {name: self.ready[name] for name in ("base", "device", "template", "notes", "voices")}
        of = [{"run": one.run_id, "name": one.name, "step": one.step} for one in self.session.trained]
        return {"job": self.session.job, "runs": of, **kept, "turns": [turn.as_json() for turn in self.turns]}

    def _print(self, text: str) -> None:
        if not self.quiet:
            print(clean(text), end="", flush=True)

    def _aside(self, text: str) -> None:
        if not self.quiet:
            print(clean(f"  {text}", False), file=sys.stderr, flush=True)
