"""Rows as token ids and labels with `tokenizers` alone, equal to what TRL's preprocessing makes of them."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from engine.data.formats import Value, is_conversational
from engine.data.markers import marked
from engine.data.template import Template
from engine.data.turns import Turn
from engine.errors import ModelError
from engine.text import clean

IGNORED = -100
"""The label that torch's cross-entropy leaves out."""
NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
BUILT_IN = Path(__file__).parent / "templates"
"""chatml.jinja and alpaca.jinja, for base models that have no template of their own."""


class Encoded(NamedTuple):
    """Token ids, and labels of the same length: the id itself where it is trained, IGNORED elsewhere.

    `prompt` is how many tokens come before the first that is trained; `unlike` how many of the prompt alone are not in the
    row, because the template or the tokenizer writes its end in another way once an answer follows.
    """

    input_ids: list[int]
    labels: list[int]
    unlike: int = 0

    @property
    def prompt(self) -> int:
        return next((i for i, label in enumerate(self.labels) if label != IGNORED), len(self.labels))

    @property
    def trained(self) -> int:
        return sum(label != IGNORED for label in self.labels)


@dataclass(frozen=True)
class Tokens:
    """A model's tokenizer and the chat template that is used with it ("" for none)."""

    tokenizer: Any
    specials: dict[str, Any]
    source: str

    @cached_property
    def template(self) -> Template:
        return Template(self.source, self.specials)

    def markers(self, tools: bool) -> Template | None:
        """The template with generation markers; None if they cannot be added to it."""
        source = marked(self.source, tuple(sorted(self.specials.items(), key=str)), tools) if self.source else None
        return Template(source, self.specials) if source else None

    @property
    def eos(self) -> str:
        return str(self.specials.get("eos_token") or "")

    def id_of(self, token: str) -> int | None:
        found: int | None = self.tokenizer.token_to_id(token) if token else None
        return found

    def encode(self, value: Value) -> tuple[Encoded, ...]:
        """The row's sequences: one, for a preference pair the chosen and the rejected.

        Raises ValueError if the template refuses the conversation.
        """
        tools = value.get("tools")
        if "messages" in value:
            return (self._conversation(value["messages"], tools),)
        if "text" in value:
            ids = self._ids(self._ended(value["text"]), True)
            return (Encoded(ids, list(ids)),)
        answers = [value[name] for name in ("completion", "chosen", "rejected") if name in value]
        if not is_conversational(value):
            prompt = self._ids(value["prompt"], True)
            return self._completions(prompt, [self._ids(self._ended(value["prompt"] + a), True) for a in answers])
        prompt = self._rendered(value["prompt"], tools, True)
        return self._completions(prompt, [self._rendered(value["prompt"] + answer, tools) for answer in answers])

    def _conversation(self, messages: list[Turn], tools: Any) -> Encoded:
        template = self.markers(tools_used(messages, tools))
        if template is None:  # then only the last answer is known to be the assistant's
            prompt, completion = last_answer(messages)
            return self._completions(self._rendered(prompt, tools, True), [self._rendered(prompt + completion, tools)])[
                0
            ]
        text, spans = template.render(messages, tools)
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        ids = encoding.ids
        labels = [IGNORED] * len(ids)
        for start, end in spans:  # as PreTrainedTokenizerBase.apply_chat_template does it
            first, last = encoding.char_to_token(start), encoding.char_to_token(end - 1)
            if first is None:
                break
            for i in range(first, last + 1 if last else len(ids)):
                labels[i] = ids[i]
        return Encoded(ids, labels)

    @staticmethod
    def _completions(prompt: list[int], wholes: list[list[int]]) -> tuple[Encoded, ...]:
        """What follows the tokens that the prompt shares with all of them is trained."""
        if not wholes:  # a prompt alone: the answer is the model's
            return (Encoded(prompt, list(prompt)),)
        shared = min(_shared(prompt, whole) for whole in wholes)
        return tuple(Encoded(w, [IGNORED] * shared + w[shared:], len(prompt) - shared) for w in wholes)

    def _rendered(self, messages: list[Turn], tools: Any, prompt: bool = False) -> list[int]:
        return self._ids(self.template.render(messages, tools, prompt).text, False)

    def _ids(self, text: str, special: bool) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    def _ended(self, text: str) -> str:
        return text if text.endswith(self.eos) else text + self.eos


def _shared(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def tools_used(messages: list[Turn], tools: Any) -> bool:
    return bool(tools) or any(m.get("tool_calls") or m["role"] == "tool" for m in messages)


def last_answer(messages: list[Turn]) -> tuple[list[Turn], list[Turn]]:
    """The conversation up to the assistant's last turn, and that turn; later turns are left out."""
    last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
    return messages[:last], messages[last : last + 1]


def load_tokens(directory: Path, template: str | None) -> Tokens:
    """The tokenizer in a directory, with the model's own template or the one named: chatml, alpaca, or a file.

    Raises ModelError for a tokenizer that cannot be read or a template that is not there.
    """
    from tokenizers import Tokenizer  # 0.2 s

    try:
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelError(
            "The tokenizer cannot be read",
            f"{directory}/tokenizer.json: {clean(str(error), False)[:200]}",
            "Copy it again.",
        ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    settings = _settings(directory)
    specials = _specials(directory, settings)
    return Tokens(tokenizer, specials, template_source(template, _own(directory, settings), specials, tokenizer))


def template_source(named: str | None, own: str, specials: dict[str, Any], tokenizer: Any) -> str:
    """The text of the chat template. ChatML ends turns with the model's end token where <|im_end|> is none of its tokens."""
    if not named:
        return own
    if named not in ("chatml", "alpaca"):
        try:
            return Path(named).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise ModelError(
                "The chat template cannot be read", f"{named}: {reason}.", "Check data.template."
            ) from None
    source = (BUILT_IN / f"{named}.jinja").read_text(encoding="utf-8")
    if named == "chatml" and tokenizer.token_to_id("<|im_end|>") is None:
        return source.replace("<|im_end|>", str(specials.get("eos_token") or "<|im_end|>"))
    return source


def _settings(directory: Path) -> dict[str, Any]:
    try:
        settings = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
        return settings if isinstance(settings, dict) else {}
    except (OSError, ValueError):
        return {}


def _specials(directory: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The special tokens by name, as transformers hands them to a template."""
    try:
        more = json.loads((directory / "special_tokens_map.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        more = {}
    found = {}
    for name in NAMES:
        token = settings.get(name, more.get(name))
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            found[name] = token
    return found


def _own(directory: Path, settings: dict[str, Any]) -> str:
    """The model's own chat template: a file, or in tokenizer_config.json, alone or the one named default."""
    try:
        return (directory / "chat_template.jinja").read_text(encoding="utf-8")
    except OSError:
        template = settings.get("chat_template") or ""
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default") or next(iter(named.values()), "")
    return template if isinstance(template, str) else ""


def stop_token(tokens: Tokens) -> str:
    """What the template writes behind an answer, trained so that the model learns to stop; "" if there is nothing."""
    template = tokens.markers(False)
    if template is None:
        return ""
    try:
        text, spans = template.render([{"role": "user", "content": "wolf"}, {"role": "assistant", "content": "lamb"}])
    except ValueError:
        return ""
    return text[spans[0][0] : spans[0][1]].partition("lamb")[2].strip() if spans else ""
