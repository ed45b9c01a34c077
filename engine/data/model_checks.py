"""What becomes of rows in front of a model: its tokenizer, its chat template and the length that it is trained with."""

import json
from functools import cached_property
from typing import Any, NamedTuple

from engine.data.findings import Findings
from engine.data.formats import is_conversational, turns_of
from engine.data.markers import PROBES
from engine.data.rows import Row
from engine.data.tokens import Encoded, Tokens, stop_token, tools_used
from engine.data.turns import Turn
from engine.text import clean

ALL, EVERY = 20_000, 20
"""So many rows are tokenized, and of those behind them each so-manieth: 1 GB would take minutes."""
THOUGHT_END = "</think>"


class Measured(NamedTuple):
    """A row's tokens: of the longest of its sequences, of the prompt before the first trained one, and those trained."""

    line: int
    tokens: int
    prompt: int
    trained: int
    packs: tuple[int, ...]


class ModelChecks:
    """Looks at one row after the other, and remembers how long each is."""

    def __init__(self, tokens: Tokens, findings: Findings) -> None:
        self.tokens, self.findings = tokens, findings
        self.measured: list[Measured] = []
        self.refused = 0
        self._rows = 0
        self._conversational = False
        unknown = tokens.specials.get("unk_token", "")
        meant = [tokens.specials.get(name) for name in ("bos_token", "eos_token", "pad_token")]
        self._unknown = tokens.id_of(unknown) if unknown not in meant else None  # GPT-2 has one token for all of them
        self._start = tokens.id_of(tokens.specials.get("bos_token", ""))

    def row(self, row: Row) -> str:
        """All checks of a usable row; the kind of finding for which it cannot be trained on, or ""."""
        self._rows += 1
        turns = turns_of(row.value)
        self._conversational |= bool(turns)
        if (self._rows > ALL and self._rows % EVERY) or (turns and not self.tokens.source):
            return ""
        if "messages" in row.value:
            used = tools_used(turns, row.value.get("tools"))
            if self.tokens.markers(used) is None and sum(t["role"] == "assistant" for t in turns) > 1:
                self.findings.add("last_answer_only", row.line)
        try:
            sequences = self.tokens.encode(row.value)
            self._content(row)
        except ValueError as error:
            self.refused += 1
            self.findings.add("template_refuses", row.line, clean(str(error), False).partition(": ")[2][:120])
            return "template_refuses"
        return self._sequences(row, sequences)

    def _sequences(self, row: Row, sequences: tuple[Encoded, ...]) -> str:
        if not all(one.trained for one in sequences):
            self.findings.add("nothing_trained", row.line)
            return "nothing_trained"
        longest = max(sequences, key=lambda one: len(one.input_ids))
        self.measured.append(Measured(row.line, len(longest.input_ids), longest.prompt, sum(s.trained for s in sequences),
                                      tuple(len(s.input_ids) for s in sequences)))  # fmt: skip
        ids = longest.input_ids
        if self._start is not None and ids[:2] == [self._start] * 2:
            self.findings.add("double_bos", row.line)
        if longest.unlike:
            self.findings.add("prompt_differs", row.line)
        if self._unknown is not None and self._unknown in ids:
            self.findings.add(
                "unknown_tokens", row.line, f"the first has {ids.count(self._unknown)} of {len(ids)} tokens"
            )
        return ""

    def _content(self, row: Row) -> None:
        """Whether all that a conversation says is in what the template makes of it."""
        if not is_conversational(row.value):
            return
        turns, tools = turns_of(row.value), row.value.get("tools")
        conversations = [turns]
        if "rejected" in row.value:
            conversations.append([*row.value["prompt"], *row.value["rejected"]])
        forgotten = False
        for messages in conversations:
            thoughts, lost = missing(self.tokens.template.render(messages, tools).text, messages, tools)
            forgotten |= thoughts
            lost = lost or self._unwritten(messages, tools)
            if lost:
                self.findings.add("content_lost", row.line, f"{row.place.unit} {row.line}, {lost}")
                break
        if forgotten:
            self.findings.add("thoughts_lost", row.line)

    def _unwritten(self, messages: list[Turn], tools: list[dict[str, Any]] | None) -> str:
        """What of its tools the template never writes: a row's own words may stand elsewhere in it by chance."""
        calls, descriptions = self._tools_written
        if not calls and any(message.get("tool_calls") for message in messages):
            return "tool calls"
        return "" if descriptions or not tools else "the descriptions of tools"

    @cached_property
    def _tools_written(self) -> tuple[bool, bool]:
        """Whether the template writes all of a call, and descriptions; what it refuses is found otherwise."""
        question, (calling, described) = PROBES[0][0], PROBES[-1]
        try:
            call = self.tokens.template.render(calling, described).text
            description = self.tokens.template.render(question, described).text
        except ValueError:
            return True, True
        return all(word in call for word in ("quexfind", "quexkey", "quexvalue")), "quexfind" in description

    def finish(self) -> None:
        """What only the tokenizer, the template and all rows together tell."""
        tokens, add = self.tokens, self.findings.add
        if self._conversational and not tokens.source:
            add("no_template")
        if self._conversational and tokens.source and self.refused < self._rows:
            end = stop_token(tokens)
            if not end and tokens.markers(False) is not None:
                add("stop_untrained")
            elif end and all(tokens.id_of(piece) is None for piece in (end, *end.split())):
                add("stop_split", 0, clean(end, False)[:40])
        special = tokens.specials
        if special.get("pad_token") and special.get("pad_token") == special.get("eos_token"):
            add("pad_is_end", 0, clean(str(special["pad_token"]), False))


def missing(text: str, messages: list[Turn], tools: list[dict[str, Any]] | None) -> tuple[bool, str]:
    """What of a conversation is not in the text that the template made of it: whether thoughts, and the first other thing."""
    thoughts = any(not contains(text, message.get("reasoning_content", "")) for message in messages)
    for number, message in enumerate(messages, 1):
        for what, piece in parts(message):
            if contains(text, piece):
                continue
            if THOUGHT_END not in piece or not contains(text, piece.rpartition(THOUGHT_END)[2]):
                return thoughts, f"turn {number}: {what} {clean(piece, False)[:40]}"
            thoughts = True
    names = [str(tool.get("function", tool).get("name", "")) for tool in tools or []]
    unnamed = next((name for name in names if name not in text), "")
    return thoughts, f"the description of the tool {clean(unnamed, False)[:40]}" if unnamed else ""


def parts(message: Turn) -> list[tuple[str, str]]:
    """What a message says, in pieces that must be found again: its text, the names, arguments and values of its calls."""
    found = [(f"the {message['role']}'s text", message["content"])] if message["content"].strip() else []
    for call in message.get("tool_calls") or []:
        function = call["function"]
        found.append(("the tool call", function["name"]))
        for key, value in function["arguments"].items():
            found += [("the argument", key), *(("the value", one) for one in leaves(value))]
    return found


def leaves(value: Any) -> list[str]:
    """The texts and numbers in a JSON value."""
    if isinstance(value, dict):
        return [leaf for key, one in value.items() for leaf in (str(key), *leaves(one))]
    if isinstance(value, list):
        return [leaf for one in value for leaf in leaves(one)]
    return [] if value is None or value == "" else [value if isinstance(value, str) else json.dumps(value)]


def contains(text: str, piece: str) -> bool:
    """Whether a piece is in a rendered conversation, as it is or as a JSON string has it; white space around it may go."""
    bare = piece.strip()
    if bare in text or piece.title() in text:
        return True
    return any(json.dumps(bare, ensure_ascii=ascii_)[1:-1] in text for ascii_ in (False, True)) or _one_spaced(
        bare
    ) in _one_spaced(text)


def _one_spaced(text: str) -> str:
    return " ".join(text.split())


class Fate(NamedTuple):
    """What becomes of the rows at some length: how many are too long, lose their end, have no room for an answer, and how
    many tokens and trained tokens are left of how many."""

    too_long: list[int]
    no_answer: list[int]
    lost_tokens: int
    tokens: int
    trained: int


def fate(measured: list[Measured], max_length: int, long_rows: str) -> Fate:
    """`long_rows` is drop, cut or split. Arithmetic only: fast enough for every key that changes the length."""
    too_long = [m for m in measured if m.tokens > max_length]
    whole = [m for m in measured if m.tokens <= max_length]
    tokens, trained, lost = sum(sum(m.packs) for m in whole), sum(m.trained for m in whole), 0
    no_answer = [m.line for m in too_long if m.prompt >= max_length] if long_rows == "cut" else []
    for m in too_long:
        if long_rows == "split":
            tokens, trained = tokens + sum(m.packs), trained + m.trained
        elif long_rows == "cut" and m.prompt < max_length:
            kept = sum(min(n, max_length) for n in m.packs)
            tokens, trained, lost = (
                tokens + kept,
                trained + max(0, m.trained - (sum(m.packs) - kept)),
                lost + sum(m.packs) - kept,
            )
        else:
            lost += sum(m.packs)
    return Fate([m.line for m in too_long], no_answer, lost, tokens, trained)


def add_fate(findings: Findings, found: Fate, max_length: int, long_rows: str) -> None:
    """The findings about the length."""
    if long_rows == "split":
        for line in found.too_long:
            findings.add("split", line, f"{max_length:,} tokens")
        return
    does = {"drop": "dropped", "cut": "cut"}[long_rows]
    for line in found.too_long:
        findings.add("cut", line, f"{max_length:,} tokens; {does}, {found.lost_tokens:,} tokens are lost")
    for line in found.no_answer:
        findings.add("long_prompt", line)
    if long_rows == "cut":
        for line in sorted(set(found.too_long) - set(found.no_answer)):
            findings.add("lost_end", line)
