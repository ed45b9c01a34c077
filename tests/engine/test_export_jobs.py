"""Exports as jobs: real processes on a tiny run, a hub and a vLLM that stand in for foreign ones, faults on the way."""

import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.events import Phase
from engine.files import read_records
from engine.gguf_header import read_header
from tests.engine.fake_hub import Hub, serve
from tests.helpers import Run, wait_for

ROOT = Path(__file__).parent.parent.parent
TOKEN = "hf_" + "cD4" * 11


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub()
    server = serve(made)
    monkeypatch.setenv("HF_ENDPOINT", made.url)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield made
    server.shutdown()


def export(run: Run, to: str, target: str | Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    return run.deck("export", run.id, "--to", to, str(target), *flags)


def nothing_but(folder: Path, *names: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_the_adapter_with_its_card_and_hashes(reported_run: Run, tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    job = reported_run.deck.json("export", reported_run.id, "--to", "adapter", str(target))
    assert job["status"] == "finished"
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "README.md",
            "SHA256SUMS", "tunedeck.json"} == {path.name for path in target.iterdir()}  # fmt: skip
    assert nothing_but(tmp_path, "adapter")
    for one in job["summary"]["artifacts"]:
        assert hashlib.sha256(Path(one["path"]).read_bytes()).hexdigest() == one["sha256"]
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=target, check=False).returncode == 0
    assert "# reported" in (target / "README.md").read_text()
    kept = {artifact["path"] for artifact in reported_run.shown()["artifacts"]}
    assert str(target / "adapter_model.safetensors") in kept
    again = export(reported_run, "adapter", target)
    assert (again.returncode, "The place is taken" in again.stderr) == (2, True)


def test_a_checkpoint_is_taken_away_without_what_only_training_needs(reported_run: Run, tmp_path: Path) -> None:
    step = min(int(p.name.rpartition("-")[2]) for p in (reported_run.directory / "checkpoints").glob("checkpoint-*"))
    target = tmp_path / "step"
    assert (
        reported_run.deck.json("export", reported_run.id, "--to", "adapter", str(target), "--step", str(step))["ask"][
            "step"
        ]
        == step
    )
    assert (target / "adapter_model.safetensors").is_file()
    assert not list(target.glob("*.pt")) + list(target.glob("training_args*")) + list(target.glob("trainer_state*"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--to", "adapter", "x", "--quantization", "f16"), "It goes with --to gguf, ollama"),
        (("--to", "trl", "x", "--detach"), "does not take --detach"),
        (("--to", "gguf", "x", "--quantization", "q4_k_m"), "LLAMA_QUANTIZE"),
        (("--to", "gguf", "x", "--merged", "/nowhere"), "no merged model"),
        (("--to", "ollama", "x", "--gguf", "/nowhere"), "no file"),
        (("--to", "adapter", "x", "--step", "77"), "no such checkpoint"),
        (("--to", "adapter", "/proc/nothing/x"), "cannot be written there"),
        (("--to", "hub", "noslash"), "no name on the hub"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_job_is_made(reported_run: Run, tmp_path: Path, flags: tuple[str, ...], said: str,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    jobs = reported_run.directory / "jobs"
    before = sorted(jobs.glob("*"))
    done = reported_run.deck("export", reported_run.id, *flags, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert sorted(jobs.glob("*")) == before
    assert nothing_but(tmp_path)


def test_without_a_converter_nothing_is_begun(
    reported_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDECK_CONVERTER", str(tmp_path / "none"))
    done = export(reported_run, "gguf", tmp_path / "x.gguf")
    assert (done.returncode, "The GGUF converter is not there" in done.stderr) == (2, True)
    assert nothing_but(tmp_path)


def test_a_template_that_is_gone_is_missed(reported_run: Run, tmp_path: Path) -> None:
    template = reported_run.directory / "model" / "chat_template.jinja"
    text = template.read_text()
    template.unlink()
    try:
        done = export(reported_run, "ollama", tmp_path / "x")
    finally:
        template.write_text(text)
    assert done.returncode == 2
    assert "The chat template is missing" in done.stderr


def test_a_tokenizer_that_llama_cpp_does_not_know_is_said_and_nothing_is_left(
    reported_run: Run, tiny_model: Path, tmp_path: Path
) -> None:
    done = export(reported_run, "gguf", tmp_path / "x.gguf", "--merged", str(tiny_model))
    assert done.returncode == 1
    assert "The converter does not know this tokenizer" in done.stderr
    assert nothing_but(tmp_path)


def test_a_merged_model_of_another_run_and_a_file_of_another_model_are_refused(
    reported_run: Run, tiny_model: Path, smollm2: str, tmp_path: Path
) -> None:
    merged = tmp_path / "merged"
    shutil.copytree(tiny_model, merged)
    (merged / "tunedeck.json").write_text(json.dumps({"run": "another", "step": None}))
    done = export(reported_run, "gguf", tmp_path / "x.gguf", "--merged", str(merged))
    assert (done.returncode, "another, not of" in done.stderr) == (2, True)
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF no more")
    done = export(reported_run, "ollama", tmp_path / "x", "--gguf", str(other))
    assert (done.returncode, "That is no GGUF file" in done.stderr) == (1, True)
    if smollm2.endswith(".gguf"):
        done = export(reported_run, "ollama", tmp_path / "x", "--gguf", smollm2)
        assert (done.returncode, "It is the file of another model" in done.stderr) == (1, True)
    assert nothing_but(tmp_path, "merged", "other.gguf")


def test_an_upload_is_shown_and_asked_for(reported_run: Run, hub: Hub) -> None:
    shown = export(reported_run, "hub", "me/captain", "--dry-run")
    assert shown.returncode == 0
    assert "me/captain (private)" in shown.stdout
    assert "adapter_model.safetensors" in shown.stdout
    assert "# reported" in shown.stdout
    refused = export(reported_run, "hub", "me/captain")
    assert (refused.returncode, "Nobody was asked" in refused.stderr) == (2, True)
    assert _typed(reported_run, "n\n") == 1
    assert (hub.created, hub.files) == ([], {})
    assert _typed(reported_run, "y\n") == 0
    assert "adapter_model.safetensors" in hub.files


def _typed(run: Run, answer: str) -> int:
    """The verb's exit code at a terminal where somebody types this."""
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "tuiapp",
        "--db",
        str(run.deck.database),
        "export",
        run.id,
        "--to",
        "hub",
        "me/captain",
    ]
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        os.write(ours, answer.encode())
        said = process.communicate(timeout=120)[0]
    os.close(ours)
    os.close(theirs)
    assert "Upload this? [y/N]" in said
    return process.returncode


def test_an_upload_is_one_commit_with_the_card_and_the_token_is_kept_nowhere(reported_run: Run, hub: Hub) -> None:
    job = reported_run.deck.json("export", reported_run.id, "--to", "hub", "me/captain", "--yes")
    assert job["status"] == "finished", job["reason"]
    assert hub.created[0]["name"] == "captain"
    assert hub.created[0].get("private") is True or hub.created[0].get("visibility") == "private"
    model = reported_run.directory / "model"
    assert hub.files["adapter_model.safetensors"] == (model / "adapter_model.safetensors").read_bytes()
    assert hub.files["README.md"].decode().startswith("---\n")
    assert "training_args.bin" not in hub.files
    assert f"Bearer {TOKEN}" in hub.tokens
    assert job["summary"]["url"] == f"{hub.url}/me/captain"
    found = subprocess.run(
        ["grep", "-rl", TOKEN, str(reported_run.deck.database.parent)], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


def test_a_repository_that_everybody_reads_needs_the_word_public(reported_run: Run, hub: Hub) -> None:
    hub.private = False
    done = export(reported_run, "hub", "me/captain", "--yes")
    assert (done.returncode, "The repository is public" in done.stderr) == (1, True)
    assert hub.files == {}


def test_a_hub_that_refuses_or_is_away_is_said(reported_run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.refuses = True
    done = export(reported_run, "hub", "me/captain", "--yes")
    assert (done.returncode, "You may not write here" in done.stderr) == (1, True)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = export(reported_run, "hub", "me/captain", "--yes")
    assert (done.returncode, "The hub was not reached" in done.stderr) == (1, True)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HOME", str(reported_run.directory / "nobody"))
    done = export(reported_run, "hub", "me/captain", "--yes")
    assert (done.returncode, "There is no token" in done.stderr) == (2, True)


def test_vllm_is_started_asked_and_stopped_where_it_is(
    reported_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "vllm"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/engine/fake_vllm.py "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_VLLM", "something else")
    job = reported_run.deck.json("export", reported_run.id, "--to", "vllm", str(tmp_path / "one"))
    check = job["summary"]["check"]
    assert (check["served"], check["same_answer"], check["theirs"]) == (True, False, "something else")
    monkeypatch.setenv("FAKE_VLLM", check["ours"])
    job = reported_run.deck.json("export", reported_run.id, "--to", "vllm", str(tmp_path / "two"))
    assert job["summary"]["check"]["same_answer"] is True
    assert "answered as TuneDeck does" in (tmp_path / "two" / "README.md").read_text()
    command = job["summary"]["commands"]["The adapter on its base"]
    assert command[command.index("--lora-modules") + 1] == "reported=adapter"
    assert os.access(tmp_path / "two" / "serve.sh", os.X_OK)
    monkeypatch.setenv("FAKE_VLLM", "")
    job = reported_run.deck.json("export", reported_run.id, "--to", "vllm", str(tmp_path / "three"))
    assert job["status"] == "finished"
    assert "the card has no memory left" in job["summary"]["check"]["said"]


SLOW_CONVERTER = """import os, sys, time
file = sys.argv[sys.argv.index("--outfile") + 1]
with open(file, "wb") as out:
    out.write(b"GGUF and half of it")
open(os.environ["STARTED"], "w").write(str(os.getpid()))
time.sleep(600)
"""


@pytest.mark.slow
def test_killed_and_gone_on_with_the_gguf_answers_as_the_tuned_model_does(
    captain: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, started, target = tmp_path / "slow", tmp_path / "started", tmp_path / "captain"
    slow.mkdir()
    (slow / "convert_hf_to_gguf.py").write_text(SLOW_CONVERTER)
    monkeypatch.setenv("STARTED", str(started))
    with monkeypatch.context() as patch:
        patch.setenv("TUNEDECK_CONVERTER", str(slow))
        job = captain.deck.json("export", captain.id, "--to", "ollama", str(target), "--detach")["job"]
        wait_for(lambda: started.exists() and started.read_text(), 200, "the converter")
    (worker,) = _processes("engine.worker.export", str(captain.directory))
    worker.kill()
    wait_for(lambda: _status(captain, job) == "crashed", 30, "the crash to be recorded")
    wait_for(lambda: not Path(f"/proc/{started.read_text()}").exists(), 30, "the converter to die with its job")
    assert not target.exists()
    file = tmp_path / "captain.unfinished" / "captain-lora-r16-f16.gguf"
    assert file.read_bytes() == b"GGUF and half of it"

    done = captain.deck("jobs", captain.id, "--resume", job)
    assert done.returncode == 0, done.stderr
    said = read_records(captain.directory / "jobs" / job / "events.jsonl")
    phases = [(record.attempt, record.event.name) for record in said if isinstance(record.event, Phase)]
    assert (1, "merge") in phases
    assert (2, "convert") in phases
    assert (2, "merge") not in phases  # what was merged before it was killed is used
    assert nothing_but(target, "captain-lora-r16-f16.gguf", "Modelfile", "README.md", "SHA256SUMS", "tunedeck.json")
    assert not (tmp_path / "captain.unfinished").exists()
    summary = next(row for row in captain.deck.json("jobs", captain.id) if row["job"] == job)["summary"]
    check = summary["check"]
    assert (check["same_answers"], check["same_tokenizer"]) == (check["prompts"], True)
    samples = {s["prompt"]: s["text"] for s in captain.shown()["samples"]}  # the last of each: the tuned model's own
    told = {answer["prompt"]: answer["file"].strip() for answer in check["answers"]}
    assert {prompt: told[prompt] for prompt in samples} == {prompt: text.strip() for prompt, text in samples.items()}
    header = read_header(target / "captain-lora-r16-f16.gguf")
    template = (captain.directory / "model" / "chat_template.jinja").read_text()
    assert header.values["tokenizer.chat_template"] == template
    _modelfile(captain, (target / "Modelfile").read_text(), template)
    _llama_cpp(target / "captain-lora-r16-f16.gguf", samples)


def _processes(module: str, place: str) -> list["psutil.Process"]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if module in command and any(part.startswith(place) for part in command):
            found.append(process)
    return found


def _status(run: Run, job: str) -> str:
    return str(next(row for row in run.deck.json("jobs", run.id) if row["job"] == job)["status"])


def _modelfile(run: Run, text: str, template: str) -> None:
    """Its template renders what training rendered."""
    from engine.data.tokens import load_tokens
    from engine.taking.modelfile import probes, rendered

    assert text.splitlines()[1] == "FROM ./captain-lora-r16-f16.gguf"
    assert 'PARAMETER stop "<|im_end|>"' in text
    source = text.partition('TEMPLATE """')[2].partition('"""')[0]
    tokens = load_tokens(run.directory / "model", None)
    assert tokens.source == template
    for messages in probes(system=True):
        assert rendered(source, messages) == tokens.template.render(messages, add_generation_prompt=True).text


def _llama_cpp(file: Path, samples: dict[str, str]) -> None:
    """llama.cpp itself, where xllamacpp brings it, loads the file and answers as the tuned model does."""
    import importlib.util

    if not importlib.util.find_spec("xllamacpp"):
        return
    done = subprocess.run(
        [sys.executable, "-c", LLAMA, str(file), *samples], capture_output=True, text=True, check=True
    )
    assert [text.strip() for text in json.loads(done.stdout.splitlines()[-1])] == [
        text.strip() for text in samples.values()
    ]


LLAMA = """import json, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.sampling.temp = sys.argv[1], 512, 0.0
server, found = xllamacpp.Server(params), []
for prompt in sys.argv[2:]:
    made = server.handle_chat_completions({"messages": [{"role": "user", "content": prompt}], "max_tokens": 48, "temperature": 0})
    found.append((made if isinstance(made, dict) else json.loads(made))["choices"][0]["message"]["content"])
print(json.dumps(found))
"""
