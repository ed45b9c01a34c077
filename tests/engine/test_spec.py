"""The specification: refused with all its problems, stored as it is."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import SpecError
from engine.spec import RunSpec, apply_sets, flatten, parse, read_yaml, schema, to_yaml

text = st.text(st.characters(codec="utf-8", exclude_characters="\x85"))  # \x85: a test of its own
LEAST: dict[str, Any] = {"model": {"path": "m"}, "data": {"path": "d.jsonl"}}
SECTIONS = {
    "model",
    "data",
    "objective",
    "objective_options",
    "method",
    "training",
    "evaluation",
    "saving",
    "extra",
    "report_to",
    "compute",
    "run",
}


def refused(raw: Any) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parse(raw)
    return caught.value


def test_the_least() -> None:
    spec = parse(LEAST)
    assert (spec.objective, spec.method.kind, spec.method.targets) == (None, None, None)
    assert spec.training.learning_rate is None


def test_a_spec_is_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        parse(LEAST).training.seed = 1


class TestProblems:
    def test_an_unknown_key_is_refused_and_the_known_are_named(self) -> None:
        error = refused(LEAST | {"training": {"lr": 1e-4}})
        assert "training.lr is not a known key" in error.message
        assert "learning_rate" in error.hint

    def test_an_unknown_section(self) -> None:
        error = refused(LEAST | {"trainig": {}})
        assert "trainig is not a known key" in error.message
        assert "training" in error.hint

    def test_an_unknown_key_further_in(self) -> None:
        error = refused(LEAST | {"method": {"quantization": {"bit": 4}}})
        assert "method.quantization.bit" in error.message
        assert "double" in error.hint

    def test_all_problems_come_at_once(self) -> None:
        error = refused(
            {"data": {"path": ""}, "training": {"epochs": -1, "lr": 1}, "method": {"kind": "loar", "rank": 0}}
        )
        for path in ("model", "data.path", "training.epochs", "training.lr", "method.kind", "method.rank"):
            assert path in error.message
        assert error.title == "The run specification has problems"

    @pytest.mark.parametrize("raw", [None, [], "x", 3, {}])
    def test_no_spec_at_all(self, raw: Any) -> None:
        assert refused(raw).message

    @pytest.mark.parametrize("section", [{"variant": "dora"}, {"modules_to_save": ["lm_head"]}])
    def test_adapter_options_do_not_belong_to_full(self, section: dict[str, Any]) -> None:
        message = refused(LEAST | {"method": {"kind": "full", **section}}).message
        assert message == f"method: full has no {next(iter(section))}; it has no settings"

    @pytest.mark.parametrize(
        ("method", "says"),
        [
            ({"kind": "ia3", "rank": 4}, "ia3 has no rank; it has modules_to_save, targets"),
            ({"virtual_tokens": 8}, "virtual_tokens needs a kind that has it: prefix, prompt, ptuning"),
            ({"kind": "ia4"}, "must be one of full, lora, qlora"),
        ],
    )
    def test_each_method_has_its_own_settings(self, method: dict[str, Any], says: str) -> None:
        assert says in refused(LEAST | {"method": method}).message

    @pytest.mark.parametrize(
        ("field", "value", "near"), [("optimizer", "adamw8bit", "adamw_8bit"), ("schedule", "cosin", "cosine")]
    )
    def test_names_of_transformers_with_the_nearest(self, field: str, value: str, near: str) -> None:
        assert near in refused(LEAST | {"training": {field: value}}).message

    def test_a_secret_is_found_however_deep_it_lies(self) -> None:
        extra = {"trainer": {"model_init_kwargs": {"token": "hf_x"}}}
        assert "may be secret" in refused(LEAST | {"extra": extra}).message

    @pytest.mark.parametrize("validation", [-1, -0.5])
    def test_negative_validation(self, validation: float) -> None:
        assert (
            "must not be negative"
            in refused({"model": {"path": "m"}, "data": {"path": "d", "validation": validation}}).message
        )

    @pytest.mark.parametrize(
        "item", ["training.epochs=.inf", "data.validation=.nan", "data.validation=.inf", "evaluation.every=.inf"]
    )
    def test_numbers_are_finite(self, item: str) -> None:
        refused(apply_sets(LEAST, [item]))

    def test_what_was_given_is_shown_without_control_sequences(self) -> None:
        assert "\x1b" not in refused(LEAST | {"objective": "\x1b[31mdpo"}).message


class TestSet:
    @pytest.mark.parametrize(
        ("item", "expected"),
        [
            ("training.learning_rate=1e-4", {"training": {"learning_rate": 1e-4}}),
            ("training.learning_rate=2E-5", {"training": {"learning_rate": 2e-5}}),
            ("training.seed=7", {"training": {"seed": 7}}),
            ("training.packing=true", {"training": {"packing": True}}),
            ("data.template=null", {"data": {"path": "d.jsonl", "template": None}}),
            ("method.targets=[q_proj, v_proj]", {"method": {"targets": ["q_proj", "v_proj"]}}),
            ("data.columns={instruction: q}", {"data": {"path": "d.jsonl", "columns": {"instruction": "q"}}}),
            ("method.quantization.type=fp4", {"method": {"quantization": {"type": "fp4"}}}),
            ("run.note=a=b", {"run": {"note": "a=b"}}),
            ("run.name=", {"run": {"name": None}}),
            ("run.name=else", {"run": {"name": "else"}}),
        ],
    )
    def test_a_value_lands_where_its_path_says(self, item: str, expected: dict[str, Any]) -> None:
        raw = apply_sets(LEAST, [item])
        assert raw == LEAST | expected
        parse(raw)

    def test_later_ones_win_and_the_given_mapping_stays(self) -> None:
        given_raw = {**LEAST, "training": {"seed": 1}}
        assert apply_sets(given_raw, ["training.seed=2", "training.seed=3"])["training"]["seed"] == 3
        assert given_raw["training"] == {"seed": 1}

    @pytest.mark.parametrize("item", ["training.seed", "=3", "", "training.seed=[1", "objective.beta=1"])
    def test_bad_forms(self, item: str) -> None:
        with pytest.raises(SpecError):
            apply_sets(LEAST | {"objective": "sft"}, [item])

    def test_an_impossible_date(self) -> None:
        with pytest.raises(SpecError):
            apply_sets(LEAST, ["run.name=2026-13-45"])


class TestYaml:
    @settings(deadline=None, max_examples=60)
    @given(
        st.floats(min_value=1e-12, max_value=0.5),
        st.lists(text, max_size=3),
        st.none() | st.floats(0, 1e6) | text.filter(bool),
        text,
        st.dictionaries(text, st.booleans() | st.integers() | text | st.none(), max_size=3),
    )
    def test_out_and_in_again_is_the_same(
        self, rate: float, prompts: list[str], held: Any, note: str, extra: Any
    ) -> None:
        spec = parse({
            "model": {"path": "m", "revision": note or None}, "data": {"path": "d", "validation": held},
            "training": {"learning_rate": rate}, "evaluation": {"prompts": prompts}, "run": {"note": note, "tags": prompts},
            "extra": {"trainer": extra},
        })  # fmt: skip
        assert parse(yaml.safe_load(to_yaml(spec))) == spec

    def test_a_next_line_character_in_a_prompt(self) -> None:
        spec = parse(LEAST | {"evaluation": {"prompts": ["wait\x85what"]}})
        assert parse(yaml.safe_load(to_yaml(spec))) == spec

    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "run.yaml"
        path.write_text("model: {path: m}\ndata: {path: d}\n")
        assert read_yaml(path) == {"model": {"path": "m"}, "data": {"path": "d"}}

    @pytest.mark.parametrize(
        "text",
        [
            "!!python/object/apply:os.system ['touch pwned']",
            "model: !!python/name:os.system",
            "a: [1",
            "- a list",
            "",
            "\x00",
        ],
    )
    def test_what_is_no_mapping_or_unsafe_is_refused(
        self, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "run.yaml"
        path.write_text(text)
        with pytest.raises(SpecError):
            read_yaml(path)
        assert not (tmp_path / "pwned").exists()

    def test_no_file_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "latin.yaml").write_bytes(b"run: {note: \xe9}")
        for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "latin.yaml"):
            with pytest.raises(SpecError):
                read_yaml(path)

    def test_an_impossible_date(self, tmp_path: Path) -> None:
        (tmp_path / "run.yaml").write_text("run: {name: 2026-13-45}")
        with pytest.raises(SpecError):
            read_yaml(tmp_path / "run.yaml")


def test_flatten() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": None, "f": {}}) == {"a.b": 1, "a.c.d": [1, 2], "e": None}


def test_flattened_paths_are_those_of_set() -> None:
    spec = parse(LEAST).model_dump(mode="json")
    flat = flatten(spec)
    again = apply_sets({}, [f"{path}={yaml.safe_dump(value, default_flow_style=True)}" for path, value in flat.items()])
    assert parse(again) == parse(spec)


def test_the_schema_has_every_section() -> None:
    assert set(schema()["properties"]) == SECTIONS == set(RunSpec.model_fields)
    assert schema()["required"] == ["model", "data"]
    assert schema()["additionalProperties"] is False


def test_names_are_cleaned_of_control_characters() -> None:
    run = parse(LEAST | {"run": {"name": " \x1b[31mred\x07\nrun ", "project": "p\x00q", "note": "a\x9bb\u202ec"}}).run
    assert (run.name, run.project, run.note) == ("red run", "pq", "abc")


def test_a_name_may_be_80_characters_long() -> None:
    assert parse(LEAST | {"run": {"name": "x" * 80}}).run.name == "x" * 80
    assert "run.name" in refused(LEAST | {"run": {"name": "x" * 81}}).message
