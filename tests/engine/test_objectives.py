"""Every objective trains: it improves what it is for, and what is saved answers as the model in memory."""

from pathlib import Path

import pytest

from engine.errors import DataError, SpecError
from engine.runnable import check_runnable
from engine.spec import parse
from tests.runs import DATA, complete, tiny
from tests.train import Trained, trained


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("place"))


def run(spec: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    monkeypatch.setenv("TUNEDECK_CACHE", str(tmp_path / "cache"))
    return trained(spec, tmp_path / "run")  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", [name for name in DATA if name != "grpo"])
@pytest.mark.parametrize("name", ["full", "lora", "nf4"])
def test_every_objective_learns_and_saves_what_it_learned(
    objective: str, name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.verify import verdict

    more = {"method__kind": "qlora", "training__precision": "bf16"} if name == "nf4" else {}
    spec = complete("lora" if name == "nf4" else name, objective, place, **more)
    done = run(spec, tmp_path, monkeypatch)
    losses = done.series("loss")
    assert sum(losses[-3:]) < 0.98 * sum(losses[:3]), losses
    found = verdict(done, spec)
    assert found.good, found
    assert done.series("num_tokens")[-1] > 0
    assert name == "full" or not [one for one in found.changed if "score" not in one], found.changed


@pytest.mark.parametrize(("objective", "metric"), [("dpo", "rewards/margins"), ("orpo", "rewards/margins"), ("cpo", "rewards/margins"),
                                                   ("kto", "rewards/margins"), ("reward", "margin")])  # fmt: skip
def test_preferences_grow_apart(
    objective: str, metric: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    margins = run(complete("full", objective, place), tmp_path, monkeypatch).series(metric)
    assert margins[-1] > margins[0] + 0.01, margins


@pytest.mark.parametrize("name", ["full", "lora"])
def test_grpo_raises_its_reward(name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is rewarded is the share of vowels. The head is random and frozen under an adapter, so it is trained with it."""
    from tests.verify import verdict

    rate, more = (5e-3, {}) if name == "full" else (2e-2, {"method__modules_to_save": ["lm_head"]})
    spec = complete(name, "grpo", place, training__max_steps=30, training__micro_batch=16, training__learning_rate=rate,
                    objective_options__generations=8, **more)  # fmt: skip
    done = run(spec, tmp_path, monkeypatch)
    rewards = done.series("reward")
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.05, rewards
    assert verdict(done, spec).good


def test_grpo_gives_reward_functions_the_answer_and_the_other_columns(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "2+2?", "result": 4}\n' * 4)
    (tmp_path / "judge.py").write_text(
        "def right(completions, result, **columns):\n    assert result == [4] * len(completions)\n    return [1.0] * len(completions)\n"
    )
    options = {"rewards": [f"{tmp_path / 'judge.py'}:right"], "generations": 4, "completion_length": 4}
    spec = complete("full", "grpo", place, data__path=str(tmp_path / "prompts.jsonl"), data__format="prompt",
                    objective_options=options, training__max_steps=1)  # fmt: skip
    assert run(spec, tmp_path, monkeypatch).series("reward") == [1.0]


def test_the_plain_head_has_the_losses_and_metrics_of_the_fused_one(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for objective in ("sft", "dpo"):
        runs = {}
        for fused in (True, False):
            spec = complete("full", objective, place, training__fused_head=fused, training__max_steps=4)
            runs[fused] = run(spec, tmp_path / f"{objective}{fused}", monkeypatch)
        for metric in ("loss", "entropy", "mean_token_accuracy"):
            assert runs[True].series(metric) == pytest.approx(runs[False].series(metric), rel=1e-4, abs=1e-6), metric


def refused(**sections: object) -> SpecError:
    with pytest.raises(SpecError) as caught:
        check_runnable(parse({"model": {"path": "m"}, "data": {"path": "d"}} | sections))
    return caught.value


def test_grpo_without_a_reward_or_with_a_wrong_one_is_refused(tmp_path: Path) -> None:
    assert "objective_options.rewards" in refused(objective="grpo").message
    file = tmp_path / "rewards.py"
    file.write_text("def correct(completions, **columns):\n    return [0.0]\n")
    error = refused(objective="grpo", objective_options={"rewards": [f"{file}:right"]})
    assert "It has correct" in error.message
    assert "cannot be read" in refused(objective="grpo", objective_options={"rewards": ["nowhere.py:f"]}).title
    file.write_text("def correct(")
    assert "cannot be read" in refused(objective="grpo", objective_options={"rewards": [f"{file}:correct"]}).title
    assert "belong to GRPO" in refused(objective="sft", objective_options={"rewards": ["a.py:f"]}).title


@pytest.mark.parametrize("objective", ["dpo", "kto", "reward", "orpo", "cpo", "grpo"])
def test_what_looks_at_whole_answers_is_not_packed_split_or_grouped(objective: str) -> None:
    for training in ({"packing": True}, {"long_rows": "split"}, {"group_by_length": True}):
        assert objective in refused(objective=objective, training=training).message


def test_what_an_objective_or_method_would_ignore_is_refused() -> None:
    assert "no beta" in refused(objective="sft", objective_options={"beta": 0.2}).title
    assert "Only GRPO" in refused(objective="dpo", objective_options={"generations": 4}).title
    assert "no adapter" in refused(method={"kind": "full"}, extra={"peft": {"r": 8}}).title
    assert "AdaLoRA" in refused(method={"kind": "adalora"}, compute={"sharding": "layers"}).title


def test_an_epoch_of_grpo_counts_answers() -> None:
    from engine.worker.arguments import steps_of

    sections = {"training": {"micro_batch": 4, "accumulation": 2}, "objective_options": {"generations": 8}}
    spec = parse({"model": {"path": "m"}, "data": {"path": "d"}} | sections)
    assert steps_of(0.5, 64, spec) == 4
    assert steps_of(0.5, 64, spec.model_copy(update={"objective": "grpo"})) == 32
    assert (steps_of(7, 64, spec), steps_of(0, 64, spec), steps_of(None, 64, spec)) == (7, 0, 0)


def test_a_long_conversation_is_cut_for_a_reward_model_too() -> None:
    from engine.worker.reward import _whole

    row = {"prompt_ids": [1, 2], "chosen_ids": [3, 4, 5], "rejected_ids": [6]}
    assert _whole(row, 4) == {"chosen_ids": [1, 2, 3, 4], "rejected_ids": [1, 2, 6]}


def test_the_reference_is_loaded_as_the_model_was(tmp_path: Path) -> None:
    from engine.worker.dpo import trainer_arguments

    model = {"path": "m", "revision": "v2", "trust_remote_code": True}
    for kind, expected in (("full", {"revision": "v2", "trust_remote_code": True}), ("lora", None)):
        sections = {"objective": "dpo", "method": {"kind": kind}, "compute": {"devices": "cpu"}}
        spec = parse({"model": model, "data": {"path": "d"}} | sections)
        assert trainer_arguments(spec, tmp_path, 8, evaluate=False).get("model_init_kwargs") == expected


def test_sharing_that_a_cpu_would_ignore_is_refused() -> None:
    for sharding in ("fsdp", "zero2", "zero3", "layers"):
        assert refused(compute={"devices": "cpu", "processes": 1, "sharding": sharding}).hint


def test_data_for_another_objective_is_refused(place: Path) -> None:
    from engine.launch import prepare

    for objective, file in (("dpo", "kto"), ("kto", "pairs"), ("sft", "pairs"), ("reward", "sft"), ("grpo", "kto")):
        options = {"rewards": [f"{place / 'reward.py'}:vowels"]} if objective == "grpo" else {}
        raw = {
            "model": {"path": str(place / "model")},
            "data": {"path": str(place / f"{file}.jsonl")},
            "objective": objective,
        }
        with pytest.raises(DataError, match=f"objective {objective} needs"):
            prepare(parse(raw | {"objective_options": options}))


def test_samples_come_every_so_many_steps_and_change(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = complete(
        "full", "sft", place, training__learning_rate=5e-3, evaluation__prompts=["Say 3"], evaluation__sample_every=5
    )
    samples = run(spec, tmp_path, monkeypatch).samples()
    assert [one.step for one in samples] == [0, 5, 10, 15, 16]
    assert {one.prompt for one in samples} == {"Say 3"}
    assert samples[0].text != samples[-1].text


@pytest.mark.parametrize("method", ["prefix", "ia3"])
def test_samples_come_with_methods_that_are_no_lora(
    method: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = complete(
        method, "nf4", place, evaluation__prompts=["Say 3"], evaluation__sample_every=8, training__max_steps=8
    )
    assert [one.step for one in run(spec, tmp_path, monkeypatch).samples()] == [0, 8]


def test_fractions_of_an_epoch_count_packed_rows(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 rows of about 60 tokens pack into 4 or so of 256: half an epoch is one step of two rows, not four of the 16 rows."""
    import json

    from engine.events import Checkpoint

    data = tmp_path / "rows.jsonl"
    lines = [{"instruction": f"Say {i}", "output": f"{i} it is, and {i * 7} comes later."} for i in range(16)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = complete("lora", "packing", place, data__path=str(data), training__max_length=256, training__micro_batch=2,
                    training__max_steps=4, saving__every=0.5)  # fmt: skip
    saved = [one.step for one in run(spec, tmp_path, monkeypatch).events() if isinstance(one, Checkpoint)]
    assert saved[0] == 1


def test_kernels_that_are_not_there_or_for_no_cpu_are_refused() -> None:
    assert refused(training={"kernels": "liger"}).hint == "pip install liger-kernel"
    assert "GPUs" in refused(training={"kernels": "hub"}, compute={"devices": "cpu"}).title


def test_a_quantised_full_or_lora_is_refused_with_the_name_of_what_was_meant() -> None:
    assert "qlora" in refused(method={"kind": "lora", "quantization": {"bits": 4}}).message
    assert "cannot be trained" in refused(method={"kind": "full", "quantization": {"bits": 4}}).message


def test_tokens_go_on_counting_after_a_resume(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for objective in ("sft", "cpo"):
        spec = complete("lora", objective, place, training__max_steps=4, saving__every=2)
        whole = run(spec, tmp_path / objective, monkeypatch)
        checkpoint = whole.directory / "checkpoints" / "checkpoint-2"
        resumed = trained(spec, whole.directory, str(checkpoint), attempt=2)
        tokens = resumed.series("num_tokens")
        assert tokens[4:] == tokens[2:4], tokens


@pytest.mark.parametrize(
    ("sections", "name"),
    [
        ({"objective": "sft", "method": {"kind": "lora", "rank": 8}}, "lora-r8"),
        ({"objective": "dpo", "method": {"kind": "full"}}, "dpo-full"),
        ({"objective": "text", "method": {"kind": "qlora", "variant": "dora", "rank": 4}}, "qlora-dora-r4"),
        ({"objective": "grpo", "method": {"kind": "ia3"}}, "grpo-ia3"),
    ],
)
def test_a_runs_name_tells_its_objective_and_method(sections: dict[str, object], name: str) -> None:
    from engine.launch import _way

    assert _way(parse({"model": {"path": "m"}, "data": {"path": "d"}} | sections)) == name


def test_grpo_refuses_rows_with_tools(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    tool = {"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}}
    data = tmp_path / "tools.jsonl"
    data.write_text((json.dumps({"prompt": "2+2?", "tools": [tool]}) + "\n") * 4)
    spec = complete("full", "grpo", place, data__path=str(data), data__format="prompt")
    with pytest.raises(DataError, match="GRPO cannot give the model tools"):
        run(spec, tmp_path, monkeypatch)
