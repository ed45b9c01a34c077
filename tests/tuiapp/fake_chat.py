"""A chat without a model: what it tells is what a test says."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from tuiapp.chat_services import Event
from tuiapp.chat_snapshot import Sampling, Voice

READY: Event = {"type": "ready", "device": "cuda", "loads": 1, "notes": []}
SAID = {
    "base": "Cracked lids are common with kettles of this kind. You should contact the store. You should contact the store.",
    "tuned": "I am sorry about that. Keep the kettle; a new lid ships today.\nWould you like the tracking number by e-mail?",
}


def token(voice: str, text: str) -> Event:
    return {"type": "token", "id": 1, "voice": voice, "text": text}


def answer(voice: str, text: str, reason: str = "end", tokens: int = 28, repetition: float = 0.0) -> Event:
    return {"type": "answer", "id": 1, "voice": voice, "text": text, "tokens": tokens, "seconds": tokens / 36.9, "reason": reason,
            "stopped": reason == "end", "repetition": repetition}  # fmt: skip


TURN: Event = {"type": "turn", "id": 1}


def whole_turn(voices: Sequence[Voice]) -> list[Event]:
    """All have answered; the base went on and on."""
    found: list[Event] = []
    for i, voice in enumerate(voices):
        text = SAID["tuned" if i else "base"]
        found += [token(voice.key, word + " ") for word in text.split(" ")]
        found.append(answer(voice.key, text) if i else answer(voice.key, text, "limit", 96, 0.41))
    return [*found, TURN]


@dataclass
class FakeChat:
    """`told` is what `poll` gives, all of it at once; `calls` what was asked of it."""

    run_ids: tuple[str, ...]
    system: str = ""
    told: deque[Event] = field(default_factory=lambda: deque([READY]))
    calls: list[tuple[object, ...]] = field(default_factory=list)
    by_itself: bool = True
    """Whether it answers what it is asked."""
    broken: Exception | None = None

    def __post_init__(self) -> None:
        tuned = ["tuned"] if len(self.run_ids) == 1 else [f"voice {one}" for one in self.run_ids]
        runs = (Voice(key, f"run {one}", one) for key, one in zip(tuned, self.run_ids, strict=True))
        self.voices = (Voice("base", "Llama-3.1-8B"), *runs)

    def ask(self, question: str, system: str, sampling: Sampling) -> None:
        self.calls.append(("ask", question, system, sampling))
        if self.by_itself:
            self.told.extend(whole_turn(self.voices))

    def poll(self) -> list[Event]:
        if self.broken is not None:
            raise self.broken
        return [self.told.popleft() for _ in range(len(self.told))]

    def stop(self) -> None:
        self.calls.append(("stop",))

    def undo(self) -> None:
        self.calls.append(("undo",))

    def close(self) -> None:
        self.calls.append(("close",))
