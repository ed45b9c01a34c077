"""Merges as jobs: what is written and checked, what is refused, and what an interruption or a full disk leaves behind."""

import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig
from safetensors.torch import load_file, save_file

from engine.after.merging import memory, own_type, way
from engine.after.trained import of_directory
from engine.errors import ModelError, RunError, SpaceError
from engine.events import Notice
from engine.files import read_records
from engine.fingerprint import identity
from engine.models import inspect_model
from engine.spec import to_yaml
from engine.worker import merge as merging
from engine.worker.job import Job, StopAsked
from engine.worker.reporter import Reporter
from engine.worker.training import _say_base
from tests.engine.test_faults import fill_up, mounted
from tests.engine.test_merge_shards import ALL, llama, weights, with_adapter
from tests.helpers import Deck, Run, wait_for
from tests.tiny import tokenizer
from tests.train import complete_spec, trained

LORA = LoraConfig(r=4, target_modules=ALL, task_type="CAUSAL_LM")
GENERATE = """
import json, sys
sys.modules["peft"] = None  # transformers alone: importing it would fail
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, prompts = sys.argv[1], json.loads(sys.argv[2])
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
said = []
for prompt in prompts:
    text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    made = model.generate(**ids, max_new_tokens=24, do_sample=False)[0][ids["input_ids"].shape[1]:]
    said.append(tokenizer.decode(made, skip_special_tokens=True))
print("SAID" + json.dumps(said))
"""


class Teller(Reporter):
    """Tells a function, too, which phase begins."""

    def __init__(self, folder: Path, at: Callable[[str, str], None]) -> None:
        super().__init__(folder, 1)
        self._at = at

    def phase(self, name: str, text: str = "") -> None:
        super().phase(name, text)
        self._at(name, text)


def run_dir(place: Path, base: Path | None = None, config: Any = LORA, **about: Any) -> Path:
    """What a finished run leaves behind, with an adapter whose every weight was moved."""
    base = base or llama(place / "base", **about)
    trained = with_adapter(base, place / "runs" / "r0" / "model", config)
    directory = place / "runs" / "r0"
    tokenizer().save_pretrained(directory / "model")
    (directory / "spec.yaml").write_text(to_yaml(trained.spec))
    (directory / "environment.json").write_text(json.dumps({"base": identity(str(base))}))
    return directory


def asked(directory: Path, at: Callable[[str, str], None] = lambda name, text: None, **ask: Any) -> Job:
    folder = directory / "jobs" / "merge-1"
    folder.mkdir(parents=True, exist_ok=True)
    ask = {"target": str(directory.parent.parent / "out" / "merged"), "dtype": "bfloat16", "step": None} | ask
    return Job(folder, directory, ask, Teller(folder, at))


def notices(job: Job) -> list[str]:
    return [r.event.text for r in read_records(job.folder / "events.jsonl") if isinstance(r.event, Notice)]


def files(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))


class TestMerge:
    def test_writes_a_whole_model_and_where_it_comes_from(self, tmp_path: Path) -> None:
        job = asked(run_dir(tmp_path))
        summary, target = merging.merge(job).summary, Path(job.ask["target"])
        assert files(target.parent)[0] == "merged"
        assert not list(target.parent.glob("*.unfinished*"))
        assert {"config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"} <= set(files(target))
        note = json.loads((target / "tunedeck.json").read_text())
        assert (note["run"], note["dtype"], note["base"]["sha256"]) == (
            "r0",
            "bfloat16",
            identity(str(tmp_path / "base"))["sha256"],
        )  # type: ignore[index]
        assert note["files"] == summary["files"]
        for artifact in summary["artifacts"]:
            path = Path(artifact["path"])
            assert (artifact["kind"], artifact["bytes"]) == ("merged", path.stat().st_size)
            assert artifact["sha256"] == merging.sha256(path)
        check = summary["check"]
        assert check["max_difference"] <= check["tolerance"]
        assert check["mean_difference"] <= check["mean_tolerance"] < check["effect"]
        assert check["kept"] == pytest.approx(1, abs=0.05)
        assert json.loads((target / "config.json").read_text())["dtype"] == "bfloat16"

    def test_by_shards_writes_the_same(self, tmp_path: Path) -> None:
        directory = run_dir(tmp_path)
        summary = merging.merge(asked(directory)).summary
        other = merging.merge(asked(directory, target=str(tmp_path / "out" / "shards"), by_shards=True)).summary
        assert (summary["way"], other["way"]) == ("memory", "shards")
        one, two = weights(tmp_path / "out" / "merged"), weights(tmp_path / "out" / "shards")
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)
        assert other["check"] == summary["check"]
        assert len(
            json.loads((tmp_path / "out" / "shards" / "model.safetensors.index.json").read_text())["weight_map"]
        ) == len(one)

    def test_goes_by_shards_where_memory_is_too_small_and_checks_each_weight(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(merging, "FREE", lambda: 0.1)
        job = asked(run_dir(tmp_path))
        summary = merging.merge(job).summary
        assert summary["way"] == "shards"
        assert "0.1 GiB are free" in summary["why"]
        assert summary["check"]["by"] == "weights"
        assert 0 < summary["check"]["max_difference"] <= summary["check"]["tolerance"]
        assert any("no whole model" in text for text in notices(job))

    def test_what_cannot_be_done_by_shards_needs_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", bias="all")
        directory = run_dir(tmp_path, config=config)
        with pytest.raises(RunError, match="cannot be merged by shards"):
            merging.merge(asked(directory, by_shards=True))
        monkeypatch.setattr(merging, "FREE", lambda: 0.1)
        with pytest.raises(RunError, match="not enough memory"):
            merging.merge(asked(directory))
        monkeypatch.undo()
        assert merging.merge(asked(directory)).summary["check"]["kept"] == pytest.approx(1, abs=0.05)

    def test_other_methods_in_memory(self, tmp_path: Path) -> None:
        config = IA3Config(
            target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
        )
        assert merging.merge(asked(run_dir(tmp_path, config=config))).summary["check"]["kept"] == pytest.approx(
            1, abs=0.1
        )

    @pytest.mark.parametrize(
        "sets", [{"method__kind": "qlora"}, {"method__kind": "lora", "objective": "reward"}], ids=["qlora", "reward"]
    )
    def test_what_was_really_trained(self, sets: dict[str, Any], tiny_model: Path, rows: Path, tmp_path: Path) -> None:
        """On a base in 4 bits: what is merged into is the base in 16. And a reward model, whose head the base has not."""
        if sets.get("objective") == "reward":
            rows = tmp_path / "pairs.jsonl"
            pairs = [{"prompt": f"Say {i}.", "chosen": f"{i} it is.", "rejected": "No."} for i in range(16)]
            rows.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        directory = tmp_path / "runs" / "r0"
        spec = complete_spec(
            tiny_model, rows, training__max_steps=3, training__learning_rate=0.05, training__micro_batch=4, **sets
        )
        trained(spec, directory)
        (directory / "spec.yaml").write_text(to_yaml(spec))
        check = merging.merge(asked(directory)).summary["check"]
        assert check["kept"] == pytest.approx(1, abs=0.1)
        merged, base = weights(tmp_path / "out" / "merged"), weights(tiny_model)
        name = "model.embed_tokens.weight"  # which the adapter has not touched
        assert torch.equal(merged[name], base[name])
        assert {tensor.dtype for tensor in merged.values()} == {torch.bfloat16}
        assert "quantization_config" not in json.loads((tmp_path / "out" / "merged" / "config.json").read_text())

    def test_a_base_that_is_stored_quantised_is_refused(self, tmp_path: Path) -> None:
        directory = run_dir(tmp_path)
        config = tmp_path / "base" / "config.json"
        config.write_text(
            json.dumps(json.loads(config.read_text()) | {"quantization_config": {"quant_method": "gptq"}})
        )
        with pytest.raises(ModelError, match="stored quantised") as caught:
            merging.merge(asked(directory, anyway=True))
        assert "--base PATH" in caught.value.hint

    def test_a_change_too_small_for_the_type_is_said_or_refused(self, tmp_path: Path) -> None:
        """Of a change far below the spacing of bfloat16 almost nothing is left; float16 has eight times finer steps."""
        directory = run_dir(tmp_path)
        file = directory / "model" / "adapter_model.safetensors"
        save_file({n: t * (0.0008 if "lora_B" in n else 1) for n, t in load_file(file).items()}, file)
        with pytest.raises(RunError, match="loses what was trained") as caught:
            merging.merge(asked(directory))
        assert "float16" in caught.value.hint
        assert files(tmp_path / "out") == []
        job = asked(directory, anyway=True)
        kept = merging.merge(job).summary["check"]["kept"]
        assert kept < 0.5
        assert any("is left" in text for text in notices(job))
        more = merging.merge(
            asked(directory, dtype="float16", target=str(tmp_path / "out" / "half"), anyway=True)
        ).summary["check"]["kept"]
        assert more > kept

    def test_a_model_that_says_something_else_gets_no_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The adapter applied twice, as a base that had been merged before would have it."""
        real = merging.merged_in_memory

        def twice(model: Any, dtype: torch.dtype) -> Any:
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.data *= 3
            return real(model, dtype)

        monkeypatch.setattr(merging, "merged_in_memory", twice)
        with pytest.raises(RunError, match=r"not what was trained|loses what was trained"):
            merging.merge(asked(run_dir(tmp_path)))
        assert files(tmp_path / "out") == []

    def test_not_finite_is_refused(self, tmp_path: Path) -> None:
        directory = run_dir(tmp_path)
        file = directory / "model" / "adapter_model.safetensors"
        save_file(
            {n: t * float("nan") if "layers.0.self_attn.q_proj.lora_B" in n else t for n, t in load_file(file).items()},
            file,
        )
        for by_shards in (False, True):
            with pytest.raises(RunError, match="not finite"):
                merging.merge(asked(directory, by_shards=by_shards))
        assert files(tmp_path / "out") == []


class TestRefused:
    def test_a_taken_place(self, tmp_path: Path) -> None:
        directory = run_dir(tmp_path)
        target = tmp_path / "out" / "merged"
        target.mkdir(parents=True)
        (target / "mine.txt").write_text("mine")
        with pytest.raises(RunError, match="The place is taken"):
            merging.merge(asked(directory))
        assert files(tmp_path / "out") == ["merged", "merged/mine.txt"]

    def test_a_directory_beside_it_that_is_not_ours(self, tmp_path: Path) -> None:
        directory = run_dir(tmp_path)
        (tmp_path / "out" / "merged.unfinished").mkdir(parents=True)
        (tmp_path / "out" / "merged.unfinished" / "mine.txt").write_text("mine")
        with pytest.raises(RunError, match="not ours"):
            merging.merge(asked(directory))
        assert (tmp_path / "out" / "merged.unfinished" / "mine.txt").exists()

    def test_learned_tokens_and_whole_models(self, tmp_path: Path) -> None:
        directory = run_dir(tmp_path, config=PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"))
        spec = of_directory(directory).spec
        prefix = spec.model_copy(update={"method": spec.method.model_copy(update={"kind": "prefix"})})
        (directory / "spec.yaml").write_text(to_yaml(prefix))
        with pytest.raises(RunError, match="prefix cannot be merged") as caught:
            merging.merge(asked(directory))
        assert "export" in caught.value.hint
        shutil.rmtree(directory / "model")
        shutil.copytree(tmp_path / "base", directory / "model")
        with pytest.raises(RunError, match="nothing to merge"):
            merging.merge(asked(directory))

    def test_another_job_at_the_same_place(self, tmp_path: Path) -> None:
        directory = run_dir(tmp_path)
        caught: list[RunError] = []

        def meanwhile(name: str, text: str) -> None:
            if name == "check":
                with pytest.raises(RunError) as one:
                    merging.merge(asked(directory))
                caught.append(one.value)

        merging.merge(asked(directory, meanwhile))
        assert [one.title for one in caught] == ["Another job writes there"]
        assert (tmp_path / "out" / "merged" / "config.json").exists()


class TestInterrupted:
    def test_finished_shards_are_taken_over(self, tmp_path: Path) -> None:
        """A copy of what is there in the middle is what a kill leaves: whole files, one half one, and the mark."""
        directory, left = run_dir(tmp_path), tmp_path / "left"

        def killed(name: str, text: str) -> None:
            if text.startswith("merges file 4 "):
                shutil.copytree(tmp_path / "out" / "merged.unfinished", left)
                raise StopAsked

        with pytest.raises(StopAsked):
            merging.merge(asked(directory, killed, by_shards=True))
        place = tmp_path / "out" / "merged.unfinished"
        assert len(list(place.glob("*.safetensors"))) == 3  # asked to stop, it leaves the same
        shutil.rmtree(place)
        left.rename(place)
        first, second, third = sorted(place.glob("*.safetensors"))
        half = place / third.name.replace("00003", "00004")
        half.write_bytes(third.read_bytes()[:100])
        third.write_bytes(third.read_bytes()[:-1] + b"\xff")  # damaged since
        kept = {file.name: file.stat().st_ino for file in (first, second)}
        merging.merge(asked(directory, by_shards=True))
        merging.merge(asked(directory, by_shards=True, target=str(tmp_path / "out" / "fresh")))
        one, two = tmp_path / "out" / "merged", tmp_path / "out" / "fresh"
        assert {name: (one / name).stat().st_ino for name in kept} == kept
        for file in two.glob("*.safetensors"):
            assert (one / file.name).read_bytes() == file.read_bytes()
        assert files(tmp_path / "out" / "merged") == files(two)

    def test_shards_of_another_merge_are_not(self, tmp_path: Path) -> None:
        directory = run_dir(tmp_path)

        def stopped(name: str, text: str) -> None:
            if text.startswith("merges file 4 "):
                raise StopAsked

        with pytest.raises(StopAsked):
            merging.merge(asked(directory, stopped, by_shards=True))
        merging.merge(asked(directory, by_shards=True, dtype="float16"))
        assert {t.dtype for t in weights(tmp_path / "out" / "merged").values()} == {torch.float16}

    def test_stopped_in_memory_leaves_nothing(self, tmp_path: Path) -> None:
        directory = run_dir(tmp_path)
        with pytest.raises(StopAsked):
            merging.merge(asked(directory, lambda name, text: (directory / "jobs" / "merge-1" / "STOP").touch() if name == "merge" else None))  # fmt: skip
        assert files(tmp_path / "out") == []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB of its own."""
    place = tmp_path / "disk"
    mounted(place, "4m")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


class TestRoom:
    def test_is_looked_for_first(self, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(merging, "room", lambda facts: 1 << 30)
        with pytest.raises(SpaceError, match="not enough disk space"):
            merging.merge(asked(run_dir(tmp_path), target=str(disk / "merged")))
        assert files(disk) == []

    @pytest.mark.parametrize("by_shards", [False, True])
    def test_a_disk_that_fills_up_meanwhile(
        self, by_shards: bool, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(merging, "room", lambda facts: 1 << 18)
        directory = run_dir(tmp_path)

        def fill(name: str, text: str) -> None:
            if name == "save" or text.startswith("merges file 3 "):
                fill_up(disk)

        job = asked(directory, fill, target=str(disk / "merged"), by_shards=by_shards)
        with pytest.raises(SpaceError, match="The disk is full") as caught:
            merging.merge(job)
        assert "--resume" in caught.value.hint
        assert not (disk / "merged").exists()
        (disk / "filler").unlink()
        merging.merge(asked(directory, target=str(disk / "merged"), by_shards=by_shards))
        assert sorted(path.name for path in disk.iterdir()) == ["merged"]


def test_which_way_follows_from_memory(tmp_path: Path) -> None:
    facts = inspect_model(str(llama(tmp_path / "base")))
    facts = dataclasses.replace(facts, parameters=70_000_000_000, hidden=8192, intermediate=28672, vocab=128256)
    assert 140 < memory(facts) < 180
    assert way(facts, 100.0, False)[0] == "shards"
    assert way(facts, 200.0, False)[0] == "memory"
    assert way(facts, 200.0, True)[0] == "shards"
    assert [own_type(dataclasses.replace(facts, dtype=one)) for one in ("float16", "bfloat16", "float32", None)] == ["float16", *["bfloat16"] * 3]  # fmt: skip


def test_the_worker_says_the_hash_of_a_base_that_it_downloaded(tmp_path: Path) -> None:
    """Once, and only where the run's start could not know it."""
    directory = run_dir(tmp_path)
    spec, known = of_directory(directory).spec, identity(str(tmp_path / "base"))
    _say_base(spec, Reporter(directory, 1))
    (directory / "environment.json").write_text(json.dumps({"seed": 1}))
    for attempt in (1, 2):
        _say_base(spec, Reporter(directory, attempt))
    events = [record.event for record in read_records(directory / "events.jsonl")]
    assert [vars(event) for event in events] == [known]


@pytest.fixture
def finished(reported_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A finished run in a database of this test's own."""
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path / "locks"))
    shutil.copytree(reported_run.deck.database.parent, tmp_path / "home")
    return Run(Deck(tmp_path / "home" / "experiments.db"), reported_run.id)


class TestVerb:
    def test_killed_in_the_middle_and_let_go_on(self, finished: Run, tmp_path: Path) -> None:
        """A base that has moved, too. Nothing half is ever under the final name."""
        base = shutil.copytree(
            json.loads((finished.directory / "environment.json").read_text())["base"]["path"], tmp_path / "moved"
        )
        deck, target = finished.deck, tmp_path / "out" / "merged"
        row = deck.json("merge", finished.id, str(target), "--base", str(base), "--detach")
        assert (row["kind"], row["ask"]["base"], row["ask"]["dtype"]) == ("merge", str(base), "bfloat16")
        wait_for(lambda: target.with_name("merged.unfinished").exists(), 60, "the merge's beginning")
        folder = finished.directory / "jobs" / row["job"]
        killed = _processes("engine.worker.merge", folder)
        assert killed
        for process in killed:
            process.kill()
        wait_for(lambda: _job(finished, row["job"])["status"] == "crashed", 30, "the runner's word")
        assert not target.exists()
        done = deck("jobs", finished.id, "--resume", row["job"], "--json")
        assert done.returncode == 0, done.stderr
        assert files(target.parent)[0] == "merged"
        assert not target.with_name("merged.unfinished").exists()
        artifacts = [a for a in finished.shown()["artifacts"] if a["kind"] == "merged"]
        assert {Path(a["path"]).name for a in artifacts} >= {"model.safetensors", "config.json", "tokenizer.json"}
        assert all(a["sha256"] == merging.sha256(Path(a["path"])) for a in artifacts)
        again = deck("merge", finished.id, str(target))
        assert again.returncode == 2
        assert "The place is taken" in again.stderr

    def test_a_changed_base_is_refused_before_anything_starts(self, finished: Run, tmp_path: Path) -> None:
        base = shutil.copytree(
            json.loads((finished.directory / "environment.json").read_text())["base"]["path"], tmp_path / "changed"
        )
        config = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
        done = finished.deck("merge", finished.id, str(tmp_path / "out"), "--base", str(base))
        assert done.returncode == 2
        assert done.stderr.startswith("The base model has changed since training")
        assert not (finished.directory / "jobs").exists()


def _processes(module: str, folder: Path) -> list[Any]:
    import psutil

    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if module in command and str(folder) in command:
            found.append(process)
    return found


def _job(run: Run, job: str) -> dict[str, Any]:
    return next(row for row in run.deck.json("jobs", run.id) if row["job"] == job)


@pytest.mark.slow
def test_the_demo_merged_answers_as_its_adapter_does(captain: Run, tmp_path: Path) -> None:
    """Its logits match, and transformers alone, in a process without peft, gives the adapter's answers word by word."""
    target = tmp_path / "captain"
    row = captain.deck.json("merge", captain.id, str(target))
    check = row["summary"]["check"]
    assert check["max_difference"] <= check["tolerance"]
    assert check["mean_difference"] <= check["mean_tolerance"]
    assert check["kept"] > 0.9
    assert check["same_top_token"] > 0.95
    prompts = captain.shown()["spec"]["evaluation"]["prompts"]
    done = subprocess.run(
        [sys.executable, "-c", GENERATE, str(target), json.dumps(prompts)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    merged = json.loads(done.stdout.partition("SAID")[2])
    assert merged == adapters_answers(captain, prompts)
    assert all(answer.startswith("Ahoy") for answer in merged)


def adapters_answers(run: Run, prompts: list[str]) -> list[str]:
    from engine.worker.tuned import Pair

    trained = of_directory(run.directory)
    with contextlib.ExitStack() as stack:
        pair = Pair(trained.spec, trained.path, Reporter(run.directory / "jobs", 1))
        model = stack.enter_context(pair.tuned())
        said = []
        for prompt in prompts:
            turns = [{"role": "user", "content": prompt}]
            text = pair.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            ids = pair.tokenizer(text, return_tensors="pt", add_special_tokens=False)
            made = model.generate(**ids, max_new_tokens=24, do_sample=False)[0][ids["input_ids"].shape[1] :]
            said.append(pair.tokenizer.decode(made, skip_special_tokens=True))
    return said
