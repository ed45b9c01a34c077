"""A run as the Markdown of a model card: front matter that the hub reads, then what a person wants to know. Pure functions."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from engine import catalog, dossier, report_eval
from engine.compared import Comparison
from engine.dossier import Dossier
from engine.report import number, short
from engine.text import clean

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
FILES = (".gguf", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".txt", ".zst", ".gz", ".arrow")
OBJECTIVES = {"sft": "supervised fine-tuning on instructions", "text": "further training on plain text", "dpo": "preference pairs (DPO)",
              "kto": "answers marked good or bad (KTO)", "reward": "a reward model on preference pairs", "orpo": "preference pairs (ORPO)",
              "cpo": "preference pairs (CPO)", "grpo": "reinforcement learning with rewards (GRPO)"}  # fmt: skip
NOT_SETTINGS = ("run.", "model.", "data.path", "evaluation.", "saving.", "compute.", "report_to", "objective")
PROMPTS, ANSWER, EVALUATIONS = 3, 1500, 12


def card(d: Dossier, spark: Sequence[float] = ()) -> str:
    """The card. `spark` are some values of the training loss in order."""
    parts = [
        _front_matter(d),
        f"# {escape(d.run['name'])}",
        _what(d),
        *([escape(d.run["note"], lines=True)] if d.run["note"] else []),
        "## Trained on", _trained_on(d),
        "## Results", _results(d, spark),
        *_against_the_base(d),
        *_examples(d),
        "## Limits", "\n".join(f"- {text}" for text in limits(d)),
        "## Use", _use(d),
        *_files(d),
        "## Settings", table(("setting", "value"), [(path, dossier.plain(value)) for path, value, _ in d.settings if not path.startswith(NOT_SETTINGS)]),
        "## Made with", _made_with(d),
    ]  # fmt: skip
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def escape(text: Any, lines: bool = False) -> str:
    """Foreign text as Markdown that shows it as it is: no markup, no HTML, no link of its own."""
    shown = clean(str(text), keep_lines=lines)
    return (
        re.sub(r"([\\`*\[\]<>|~$&]|(?<!\w)_|_(?!\w))", r"\\\1", shown)
        if not lines
        else "\n".join(map(_line, shown.split("\n")))
    )


def _line(text: str) -> str:
    """A line that begins no heading, list or quote either."""
    return re.sub(r"^(\s*\d*)([#>+=.)-])", r"\1\\\2", escape(text.strip()))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A table, "" without rows. Cells are foreign text."""
    if not rows:
        return ""
    rule = ["---:" if i in right else "---" for i in range(len(head))]
    lines = [[escape(cell) or " " for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in ([escape(name) for name in head], rule, *lines))


def fenced(text: str, language: str = "") -> str:
    """Text as it is, in a fence longer than any in it."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def hub_id(path: str) -> str:
    """The path if it can be a name on the hub, else ""."""
    return path if HUB_ID.fullmatch(path) and not path.lower().endswith(FILES) and ".." not in path else ""


def base_model(d: Dossier) -> str:
    """The name of the base model on the hub; "" for one that was a directory or a file."""
    model = d.plan.get("model") or {}
    if str(model.get("source") or "") in ("directory", "gguf"):
        return ""
    return hub_id(str((d.spec.get("model") or {}).get("path") or ""))


def data_sets(d: Dossier) -> list[str]:
    """The names of the data sets on the hub that it was trained on."""
    path = (d.spec.get("data") or {}).get("path") or []
    paths = [path] if isinstance(path, str) else [str(one.get("path", "")) for one in path]
    return [found for one in paths if (found := hub_id(one))]


def is_adapter(d: Dossier) -> bool:
    return d.run["method"] not in (None, "full")


def licence(d: Dossier) -> str:
    """The base model's, as far as the catalog has it."""
    known = (d.plan.get("model") or {}).get("licence")
    found = catalog.find_model(base_model(d) or d.run["model"] or "")
    return str(known or (found.licence if found else ""))


def _front_matter(d: Dossier) -> str:
    objective = d.spec.get("objective") or "sft"
    fields: dict[str, Any] = {
        "base_model": base_model(d),
        "base_model_relation": ("adapter" if is_adapter(d) else "finetune") if base_model(d) else "",
        "datasets": data_sets(d),
        "library_name": "peft" if is_adapter(d) else "transformers",
        "license": "unknown",
        "pipeline_tag": "text-classification" if objective == "reward" else "text-generation",
        "tags": ["tunedeck", objective, *([d.run["method"]] if is_adapter(d) else ["full-fine-tuning"])],
    }
    known = {name: value for name, value in fields.items() if value}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---"


def _what(d: Dossier) -> str:
    base = base_model(d)
    name = f"[{base}](https://huggingface.co/{base})" if base else f"{escape(d.run['model'])} (a local copy)"
    objective = OBJECTIVES.get(d.spec.get("objective") or "", "")
    kind = f"{d.method} adapter for" if is_adapter(d) else "Fully fine-tuned from"
    return f"{kind} {name}{': ' + objective if objective else ''}.\n\n{escape(dossier.sentence(d))}"


def _trained_on(d: Dossier) -> str:
    data = d.data
    rows = [("data", d.run["dataset"] or "–")]
    rows += [("format", str(data["format"]))] if data.get("format") else []
    if data:
        rows.append(("rows", f"{data['train']:,} trained on, {data.get('validation') or 0:,} held out"))
        rows.append(("tokens", f"{data.get('tokens') or 0:,}, {data.get('trained_tokens') or 0:,} of them trained"))
    rows += [("left out", f"{count:,} {reason}") for reason, count in (data.get("dropped") or {}).items()]
    sha = data.get("sha256") or d.environment.get("data_sha256")
    rows += [("sha256", str(sha))] if sha else []
    return table(("", ""), rows)


def _results(d: Dossier, spark: Sequence[float]) -> str:
    parts = [table(("", "", ""), dossier.key_numbers(d))]
    names = [
        name for name in ("loss", "mean_token_accuracy", "reward") if any(name in values for _, values in d.evaluations)
    ]
    shown = d.evaluations[:: max(1, -(-len(d.evaluations) // EVALUATIONS))]
    if d.evaluations and shown[-1] != d.evaluations[-1]:
        shown = (*shown, d.evaluations[-1])
    if names:
        rows = [[f"{step:,}", *(number(values.get(name), 4) for name in names)] for step, values in shown]
        parts.append(
            table(("step", *(f"eval {name.replace('_', ' ')}" for name in names)), rows, right=range(len(names) + 1))
        )
    if len(spark) > 2:
        parts.append(
            f"Train loss from the first step to the last: `{sparkline(spark)}` {short(spark[0])} to {short(spark[-1])}"
        )
    return "\n\n".join(parts)


def _against_the_base(d: Dossier) -> list[str]:
    """What the newest evaluation and the newest judgement found."""
    parts: list[str] = []
    if d.evaluated:
        summary = d.evaluated["summary"]
        parts += [
            escape(text)
            for text in (report_eval.said(summary), *report_eval.more_said(summary), *report_eval.notes(summary))
        ]
        parts += [
            table(report_eval.HEAD, report_eval.score_rows(summary), right=(1, 2, 3)),
            escape(report_eval.EXPLAINED),
        ]
        parts.append(table(("lm-eval", *report_eval.HEAD[1:]), report_eval.task_rows(summary), right=(1, 2, 3)))
    if d.judged and d.judged["summary"].get("verdict"):
        parts.append(escape(report_eval.judged(d.judged)))
    return ["## Against the base model", *parts] if parts else []


def _files(d: Dossier) -> list[str]:
    """What was made of the run and can be told by its hash."""
    rows = [[name, kind, mebibytes, sha256] for name, kind, mebibytes, sha256 in dossier.files(d) if sha256 != "–"]
    return ["## Files", table(("file", "kind", "MiB", "sha256"), rows, right=(2,))] if rows else []


def sparkline(values: Sequence[float]) -> str:
    """A curve in a character for each value; × is no number."""
    finite = [v for v in values if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    scale = 7 / (high - low) if high > low else 0.0
    return "".join("▁▂▃▄▅▆▇█"[round((v - low) * scale)] if math.isfinite(v) else "×" for v in values)


def _examples(d: Dossier) -> list[str]:
    """The first prompts with the first and the last answer."""
    by_prompt: dict[str, list[dossier.Row]] = {}
    for sample in d.samples:
        by_prompt.setdefault(str(sample["prompt"]), []).append(sample)
    parts = []
    for prompt, answers in list(by_prompt.items())[:PROMPTS]:
        parts.append(f"> {_line(clean(prompt, keep_lines=False))}")
        for one in answers[:1] if len(answers) == 1 else (answers[0], answers[-1]):
            text = clean(str(one["text"])).strip()
            parts += [
                f"Step {one['step']:,}:",
                fenced(text[:ANSWER] + (" …" if len(text) > ANSWER else "") or "(nothing)", "text"),
            ]
    return ["## Examples", "Decoded greedily.", *parts] if parts else []


def limits(d: Dossier) -> list[str]:
    """What one should know before using it, from the record alone."""
    data, training = d.data, d.spec.get("training") or {}
    found = [
        "This card was written from the record of the run. Nobody has reviewed the model for safety, bias or correctness."
    ]
    if d.run["status"] != "finished":
        found.append(f"The run is {d.run['status']}, not finished.")
    held_out = data.get("validation")
    if d.best:
        found.append(
            f"It was evaluated on {f'{held_out:,} rows' if held_out else 'rows'} held out of the same data only."
        )
    elif not report_eval.on_held_out(d.evaluated):
        found.append("It was not evaluated on rows that it had not seen.")
    if training.get("max_length"):
        found.append(f"It was trained on texts of at most {training['max_length']:,} tokens.")
    if rows := data.get("train"):
        found.append(f"{rows:,} rows were trained on" + (": few; it may repeat them." if rows < 1000 else "."))
    found += [
        f"{escape(one.text)}{f' ({escape(one.evidence)})' if one.evidence else ''}."
        for one in d.health
        if one.severity == "warning"
    ]
    if known := licence(d):
        found.append(f"The base model's licence is {escape(known)}: its terms go on to hold.")
    return [*found, "The licence of this model and of its data is not recorded: set `license` above."]


def _use(d: Dossier) -> str:
    reward = d.spec.get("objective") == "reward"
    kind = "SequenceClassification" if reward else "CausalLM"
    name, library = (f"AutoPeftModelFor{kind}", "peft") if is_adapter(d) else (f"AutoModelFor{kind}", "transformers")
    more = ", num_labels=1" if reward else ""
    lines = [
        *(["from peft import " + name, "from transformers import AutoTokenizer"] if library == "peft"
          else [f"from transformers import {name}, AutoTokenizer"]),
        "",
        'place = "."  # the directory of this card, or its name on the hub',
        f'model = {name}.from_pretrained(place, dtype="auto"{more})',
        "tokenizer = AutoTokenizer.from_pretrained(place)",
    ]  # fmt: skip
    if not reward:
        lines += _generate(d)
    text = fenced("\n".join(lines), "python")
    if is_adapter(d) and not base_model(d):
        text += "\n\nThe adapter names the base model by the path that it had where it was trained: change it in `adapter_config.json`."
    return text


def _generate(d: Dossier) -> list[str]:
    prompt = next((str(one["prompt"]) for one in d.samples), "Hello")
    prompt = repr(clean(prompt, keep_lines=False)[:200])
    if d.spec.get("objective") == "text" or (d.spec.get("data") or {}).get("template"):
        ask = [f'inputs = tokenizer({prompt}, return_tensors="pt")']
    else:
        ask = [f'messages = [{{"role": "user", "content": {prompt}}}]',
               'inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)']  # fmt: skip
    return [*ask, "answer = model.generate(**inputs, max_new_tokens=64)",
            'print(tokenizer.decode(answer[0][inputs["input_ids"].shape[1]:], skip_special_tokens=True))']  # fmt: skip


def _made_with(d: Dossier) -> str:
    versions: Mapping[str, Any] = d.environment.get("versions") or {}
    git = d.environment.get("git") or {}
    rows = [(str(name), str(version)) for name, version in versions.items()]
    rows += [("cards", ", ".join(map(str, d.environment["gpus"])))] if d.environment.get("gpus") else []
    rows += [("commit", str(git["commit"]))] if git.get("commit") else []
    return table(("", "version"), rows)


def compared(c: Comparison) -> str:
    """Several runs as Markdown: results with the best in bold, and the settings that differ."""
    head = ["", *(f"{run.letter} {run.name}" for run in c.runs)]
    results = [
        [one.name, *(f"{cell.text}{' (best)' * cell.best}{' (!)' * (not cell.like)}" for cell in one.cells)]
        for one in c.measures
    ]
    settings = [[one.path, *("=" if cell.same else cell.text for cell in one.cells)] for one in c.differing]
    notes = "\n".join(f"- {escape(note)}" for note in c.notes)
    parts = [
        f"# {len(c.runs)} runs compared", escape(c.sentence), notes, "## Result", table(head, results, right=range(1, len(head))),
        "## What differs", table(head, settings) or "Nothing that was recorded.",
        f"= as {c.baseline.letter}, the baseline. {c.same} parameters are the same." + (" (!) not like with like." if c.notes else ""),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"
