"""`python -P -m engine.worker.chat`: answers questions, one JSON line each on standard input, with events on standard output.

The first line opens it: {"type": "open", "base": bool, "voices": [{"name", "path", "spec", "plain"}]}. Then {"type": "ask", "id",
"voices": [names], "messages": {name: [turns]}, "settings": {...}}, {"type": "stop", "id"} and {"type": "quit"}. Each voice that
is asked gets one event `answer` or `failed`, then comes `turn`. It remembers nothing: the history comes with each question. It
ends with its standard input.
"""

import contextlib
import gc
import json
import os
import queue
import shutil
import sys
import threading
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import torch

from engine.chatting.settings import Settings
from engine.errors import RunError, TuneDeckError
from engine.events import Event, Phase
from engine.scoring.answers import repetition
from engine.spec import parse
from engine.worker.explain import explain
from engine.worker.generate import precision
from engine.worker.reporter import Reporter
from engine.worker.streaming import Said, answer
from engine.worker.voices import BASE, Tuned, Voices

Line = dict[str, Any]


class Speaker(Reporter):
    """Events as lines on what was standard output; there is no file. Nobody reads them any more: then it ends."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(Path(), 1, rank=1)
        self._out = out

    def tell(self, type_: str, **fields: Any) -> None:
        try:
            self._out.write(json.dumps({"type": type_, **fields}, ensure_ascii=False) + "\n")
            self._out.flush()
        except BrokenPipeError:
            os._exit(0)

    def say(self, event: Event) -> None:
        if isinstance(event, Phase):
            self.tell("phase", name=event.name, text=event.text or event.name)

    def failed(self, error: BaseException, phase: str, **fields: Any) -> None:
        """Tell a failure, with its title if it is one of ours; the traceback goes to standard error."""
        traceback.print_exception(error, limit=0 if isinstance(error, TuneDeckError) else None)
        told = explain(error, shutil.disk_usage("/").free, phase)
        ours = isinstance(error, TuneDeckError)
        title, message = (error.title, error.message) if isinstance(error, TuneDeckError) else ("", told.message)
        title = title or ("There is not enough memory" if told.kind == "oom" else "No answer could be made")
        hint = (
            told.hint if ours or told.kind in ("oom", "download") else "The whole traceback is in the job's output.log."
        )
        self.tell("failed", kind=told.kind, title=title, message=message, hint=hint, **fields)


class Inbox:
    """Lines from standard input, read in a thread of its own so that a stop is heard in the middle of an answer."""

    def __init__(self, lines: TextIO) -> None:
        self._queue: queue.Queue[Line] = queue.Queue()
        self._stopped = 0
        self._lines = lines
        first = lines.readline()
        if not first:
            os._exit(0)
        self.opening: Line = json.loads(first)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for text in self._lines:
            line = json.loads(text)
            if line["type"] == "stop":
                self._stopped = max(self._stopped, int(line["id"]))
            elif line["type"] == "quit":
                break
            else:
                self._queue.put(line)
        os._exit(0)  # whoever asked is gone; nothing is held that would be lost

    def next(self) -> Line:
        return self._queue.get()

    def halted(self, number: int) -> bool:
        """Whether the question of this number is not to be answered any further."""
        return number <= self._stopped


def serve(inbox: Inbox, speaker: Speaker) -> int:
    """Load, then answer until the input ends; the exit code."""
    try:
        voices = opened(inbox.opening, speaker)
    except BaseException as error:
        speaker.failed(error, "load", voice=None, fatal=True)
        return 1
    speaker.tell("ready", **introduction(voices))
    while True:
        line = inbox.next()
        for name in line["voices"]:
            try:
                speaker.tell("answer", id=line["id"], voice=name, **answered(voices, name, line, inbox, speaker))
            except Exception as error:
                speaker.failed(error, "answer", id=line["id"], voice=name, fatal=False)
            free()
        speaker.tell("turn", id=line["id"])


def opened(opening: Line, speaker: Speaker) -> Voices:
    tuned = [Tuned(one["name"], Path(one["path"]), parse(one["spec"]), one["plain"]) for one in opening["voices"]]
    return Voices(tuned, opening["base"], speaker)


def introduction(voices: Voices) -> Line:
    """What the event `ready` tells: who speaks, on what, with whose template, and what one should know of it."""
    first = voices.names[-1] if voices.names[0] == BASE and len(voices.names) > 1 else voices.names[0]
    source = voices.spec.data.template
    named = source if source in ("chatml", "alpaca") else Path(source).name if source else "the model's own"
    notes = []
    if voices.plain(first):
        named = "none"
        notes.append("There is no chat template in training: what you write is continued as text.")
    elif BASE in voices.names and voices.base_lacks_template:
        notes.append("The base model has no chat template: it is asked with that of training.")
    elif BASE in voices.names and source:
        notes.append("The base model is asked with the template of training, not with its own.")
    return {"voices": voices.names, "template": named, "device": voices.device, "loads": voices.loads,
            "base": Path(voices.spec.model.path).name, "context": voices.context(first), "notes": notes + voices.notes}  # fmt: skip


def answered(voices: Voices, name: str, line: Line, inbox: Inbox, speaker: Speaker) -> Line:
    """Ask one voice; the fields of the event `answer`. Raises RunError if the conversation is too long for it."""
    number, settings = line["id"], Settings(**line["settings"])
    if inbox.halted(number):
        return told(Said("", 0, 0.0, "asked"), voices)
    tokenizer, context = voices.tokenizer(name), voices.context(name)
    prompt = prompted(tokenizer, line["messages"][name], voices.plain(name))
    room = None if context is None else context - len(prompt)
    if room is not None and room < 1:
        raise RunError("The conversation is too long", f"It has {len(prompt):,} tokens; the model takes {context:,} with its answer.",
                       "Take turns back, or begin a new chat.")  # fmt: skip
    stops, spec = voices.stops(name), voices.spec_of(name)
    with voices.speaking(name) as model, precision(spec, voices.device):
        said = answer(
            model, tokenizer, prompt, settings, stops, room,
            emit=lambda piece: speaker.tell("token", id=number, voice=name, text=piece),
            halted=lambda: inbox.halted(number),
        )  # fmt: skip
    return told(said, voices) | {"prompt_tokens": len(prompt)}


def told(said: Said, voices: Voices) -> Line:
    speed = said.tokens / said.seconds if said.seconds else None
    more = {"stopped": said.reason == "end", "repetition": repetition(said.text), "loads": voices.loads}
    return asdict(said) | more | {"tokens_per_second": speed}


def prompted(tokenizer: Any, messages: list[dict[str, str]], plain: bool) -> list[int]:
    """The conversation as the model gets it: through the template, or as one text that goes on."""
    if plain:
        ids: list[int] = tokenizer("".join(one["content"] for one in messages))["input_ids"]
        return ids
    try:
        found = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    except Exception as error:  # a template is foreign code, and says in its own words what it does not take
        reason = str(error).split("\n")[0][:200]
        raise RunError("The chat template refuses it", f"{reason}.", "Try without a system prompt.") from None
    return list(found["input_ids"])


def free() -> None:
    """Give back what an answer took, all the more if there was not enough of it."""
    gc.collect()
    if torch.cuda.is_available():
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
            torch.cuda.reset_accumulated_memory_stats()  # engine.worker.explain takes its count of failures for this one's


def main() -> int:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(2, 1)  # what libraries print is not ours to send
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    return serve(Inbox(sys.stdin), Speaker(out))


if __name__ == "__main__":
    sys.exit(main())
