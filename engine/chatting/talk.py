"""Turns of a chat as they are printed and saved: text of events, nothing is done here."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.after.trained import Trained
from engine.chatting.settings import Settings
from engine.text import clean

Event = dict[str, Any]
ENDS = {
    "end": "stopped by itself",
    "limit": "cut at the limit",
    "context": "cut, the context is full",
    "asked": "stopped by you",
}
TOLD = ("text", "tokens", "seconds", "tokens_per_second", "stopped", "reason", "repetition")


@dataclass
class Turn:
    """A question and what came of it so far, by voice."""

    question: str
    system: str
    settings: Settings
    answers: dict[str, Event] = field(default_factory=dict)
    speaking: str = ""

    def hear(self, event: Event) -> None:
        name = event.get("voice")
        if event["type"] == "answer" and name:
            self.answers[name] = {key: event.get(key) for key in TOLD}
        elif event["type"] == "failed":
            told = {key: event.get(key) for key in ("kind", "title", "message", "hint")}
            self.answers[name or self.speaking or "chat"] = {"failed": told}

    def begins(self, name: str) -> bool:
        """Whether this voice has not spoken in this turn before; it has from now on."""
        before, self.speaking = self.speaking, name
        return before != name

    def as_json(self) -> Event:
        return {
            "question": self.question,
            "system": self.system,
            "settings": asdict(self.settings),
            "answers": self.answers,
        }


def heading(name: str, trained: Sequence[Trained], voices: Sequence[str], base: str) -> str:
    """Who speaks: `Base   SmolLM2-135M`, `Tuned   captain-lora-r16, step 40`."""
    if name == "base":
        return f"Base   {base}"
    places = [voice for voice in voices if voice != "base"]
    one = trained[places.index(name)]
    step = f", step {one.step}" if one.step is not None else ""
    return f"Tuned   {one.name}{step}"


def footer(event: Event) -> str:
    """How an answer ended, and how fast it came."""
    speed = event.get("tokens_per_second")
    words = [f"{event['tokens']} token{'s' * (event['tokens'] != 1)}, {ENDS.get(event['reason'], event['reason'])}"]
    if speed is not None:
        words.append(f"{speed:.1f} tok/s")
    words.append(f"repeats: {event['repetition']:.0%}".replace("%", " %"))
    return "   ".join(words)


def failure(event: Event) -> str:
    hint = f"\n  {event['hint']}" if event.get("hint") else ""
    return f"{event['title']}\n  {event['message']}{hint}"


def as_markdown(turns: Sequence[Turn], title: str) -> str:
    """The chat for people, as it stands."""
    lines, system = [f"# Chat with {title}", ""], ""
    for turn in turns:
        if turn.system != system:
            system = turn.system
            lines += [f"System: {system or 'none'}", ""]
        lines += [f"## {turn.question}", "", f"_{turn.settings.sentence()}_", ""]
        for name, answer in turn.answers.items():
            told = answer.get("text") if "text" in answer else f"failed: {answer['failed']['message']}"
            lines += [f"**{name}**", "", str(told), ""]
    return clean("\n".join(lines)).rstrip() + "\n"
