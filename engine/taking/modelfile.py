"""An Ollama Modelfile whose template writes what the training template wrote, or the reason why there is none."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.template import Template
from engine.data.tokens import Tokens, stop_token
from engine.data.turns import Turn
from engine.taking import gotemplate
from engine.taking.gotemplate import escaped
from engine.taking.turns import Family, Irregular, Turns, family

PLAIN = "{{ .Prompt }}"
LAST = "{{ $last := eq (len (slice $.Messages $i)) 1 }}"
PARAMETERS = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "repetition_penalty": "repeat_penalty",
              "min_p": "min_p"}  # fmt: skip
"""What a model's generation_config.json has, by what Ollama calls it."""
TEXTS = ("How far is it?", "One line,\nand another.", 'He said: "{{ .Prompt }}" and {% x %}\\n', "日本語 – naïve")
PADDED = "  two spaces before and behind  "


@dataclass(frozen=True)
class Translated:
    """`template` in Go's syntax, None if nothing renders the same: `reason` says why. `notes` is what should be known of it.

    `system`: whether a system prompt has a place in it.
    """

    template: str | None
    stops: tuple[str, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    system: bool = True


def translate(tokens: Tokens, adds_bos: bool) -> Translated:
    """The chat template as a Go template. `adds_bos`: the engine puts the first token there itself, as the GGUF file says."""
    if not tokens.source:
        return Translated(PLAIN, (tokens.eos,) if tokens.eos else (), system=False,
                          notes=("The model has no chat template: what is asked goes to it as it is.",))  # fmt: skip
    template = tokens.template
    bos = str(tokens.specials.get("bos_token") or "") if adds_bos else ""
    try:
        found = family(template)
    except Irregular as why:
        return Translated(None, reason=f"{why}")
    except ValueError as why:
        return Translated(None, reason=f"it refuses a plain conversation: {why}")
    source = go_source(found, bos)
    if '"""' in source:
        return Translated(None, reason="it writes three quotes in a row, which a Modelfile cannot hold")
    if unlike := differing(template, source, found, bos):
        return Translated(None, reason=unlike)
    notes = [] if found.takes_system else ["The template has no place for a system prompt: Ollama's is left out."]
    notes += _trims(template, source, found, bos)
    if "strftime_now" in tokens.source:
        notes.append("The template writes the day: it is the day of this export for ever.")
    if re.search(r"\btools\b", tokens.source):
        notes.append("Calls of tools are not translated.")
    return Translated(source, stops(tokens, found), notes=tuple(notes), system=found.takes_system)


def go_source(found: Family, bos: str = "") -> str:
    """The Go template for Ollama's `.System` and `.Messages`, without the first token if that is put there by the engine."""
    plain = found.plain
    lead = escaped(plain.lead.removeprefix(bos))
    if found.late:
        return _late_source(found, bos)
    if found.then is None:
        return lead + _loop(plain)
    before, behind = (escaped(text) for text in (found.led[0].removeprefix(bos), found.led[1]))
    with_system = f"{before}{{{{ .System }}}}{behind}"
    same = (found.then.asked, found.then.answered, found.then.prompt) == (plain.asked, plain.answered, plain.prompt)
    if same:
        return f"{{{{ if .System }}}}{with_system}{{{{ else }}}}{lead}{{{{ end }}}}{_loop(plain)}"
    return f"{{{{ if .System }}}}{with_system}{_loop(found.then)}{{{{ else }}}}{lead}{_loop(plain)}{{{{ end }}}}"


def _loop(turns: Turns, before: str = "") -> str:
    """The messages, beginning behind what leads to the first question; of a last answer the end is left open, to be gone on with."""
    asked, answered, prompt = (escaped(text) for text in (turns.asked, turns.answered, turns.prompt))
    after = prompt if prompt == asked else f"{{{{ if $last }}}}{prompt}{{{{ else }}}}{asked}{{{{ end }}}}"
    end = f"{{{{ if not $last }}}}{answered}{{{{ end }}}}" if answered and not before else ""
    return (
        f"{{{{ range $i, $_ := .Messages }}}}{LAST}"
        f'{{{{ if eq .Role "user" }}}}{before}{{{{ .Content }}}}{after}'
        f'{{{{ else if eq .Role "assistant" }}}}{{{{ .Content }}}}{end}{{{{ end }}}}{{{{ end }}}}'
    )


def _late_source(found: Family, bos: str) -> str:
    """With the system prompt before the last question: whether that is the first one too decides what stands there."""
    lead, answered = escaped(found.plain.lead.removeprefix(bos)), escaped(found.plain.answered)
    first, later = ([escaped(text) for text in pair] for pair in (found.first, found.later))
    first[0] = escaped(found.first[0].removeprefix(bos))
    alone = "{{ if eq $i 1 }}"  # the first question, behind the system prompt
    with_system = (f"{{{{ if $last }}}}{alone}{first[0]}{{{{ $.System }}}}{first[1]}{{{{ else }}}}"
                   f"{later[0]}{{{{ $.System }}}}{later[1]}{{{{ end }}}}"
                   f"{{{{ else }}}}{alone}{lead}{{{{ else }}}}{answered}{{{{ end }}}}{{{{ end }}}}")  # fmt: skip
    without = f"{{{{ if eq $i 0 }}}}{lead}{{{{ else }}}}{answered}{{{{ end }}}}"
    return _loop(found.plain, f"{{{{ if $.System }}}}{with_system}{{{{ else }}}}{without}{{{{ end }}}}")


def rendered(source: str, messages: Sequence[Turn], bos: str = "") -> str:
    """What Ollama makes of a conversation with this template, the first token of the engine before it."""
    shown = [{"Role": m["role"], "Content": m["content"]} for m in messages]
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    prompt = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    return bos + gotemplate.render(source, {"System": system, "Messages": shown, "Prompt": prompt})


def probes(system: bool, texts: Sequence[str] = TEXTS) -> list[list[Turn]]:
    """Conversations of one to four questions in many kinds of text, also with a system prompt if there is a place for one."""
    found = []
    for n in range(1, 5):
        turns: list[Turn] = []
        for i in range(n):
            turns.append({"role": "user", "content": texts[i % len(texts)]})
            turns.append({"role": "assistant", "content": texts[(i + 1) % len(texts)]})
        found.append(turns[:-1])
    prompts = [*texts[:2], texts[-1]] if system else []
    return found + [[{"role": "system", "content": prompt}, *turns] for prompt in prompts for turns in found]


def differing(template: Template, source: str, found: Family, bos: str = "") -> str:
    """In what the Go template differs from the training template on any conversation that was tried; "" if in nothing."""
    for messages in probes(found.takes_system):
        try:
            wanted = template.render(messages, add_generation_prompt=True).text
        except ValueError as why:
            return f"it refuses a conversation: {why}"
        if rendered(source, messages, bos if wanted.startswith(bos) else "") != wanted:
            return "it changes what is said, or writes it in another way"
    return ""


def _trims(template: Template, source: str, found: Family, bos: str) -> list[str]:
    """Whether white space at the ends of a message is kept, which a Go template cannot take away."""
    (messages, *_) = probes(False, [PADDED])
    wanted = template.render(messages, add_generation_prompt=True).text
    if rendered(source, messages, bos if wanted.startswith(bos) else "") == wanted:
        return []
    return ["Training took white space away at the ends of a message; Ollama leaves it there."]


def stops(tokens: Tokens, found: Family) -> tuple[str, ...]:
    """Where an answer ends: what the template writes behind one, and the model's end token."""
    behind = stop_token(tokens) or found.plain.answered.strip().split("\n")[0].strip()
    return tuple(dict.fromkeys(text for text in (behind, tokens.eos) if text and '"' not in text))


def modelfile(
    title: str, file: str, made: Translated, system: str = "", generation: Mapping[str, Any] | None = None
) -> str:
    """The Modelfile. A system prompt that it cannot hold is left out: see `holds`."""
    lines = [f"# {title}", f"FROM ./{file}"]
    if made.template is not None:
        lines.append(f'TEMPLATE """{made.template}"""')
    if system and made.system and holds(system):
        lines.append(f'SYSTEM """{system}"""')
    lines += [f'PARAMETER stop "{stop}"' for stop in made.stops]
    for name, theirs in PARAMETERS.items():
        value = (generation or {}).get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            lines.append(f"PARAMETER {theirs} {value}")
    return "\n".join(lines) + "\n"


def holds(text: str) -> bool:
    """Whether a text can stand between three quotes."""
    return '"""' not in text
