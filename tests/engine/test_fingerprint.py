"""The hash of a base model's files, and whether the base of a run is still the one that it was trained on."""

import dataclasses
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from engine.after.trained import Trained
from engine.errors import RunError
from engine.events import Base
from engine.files import EventFile
from engine.fingerprint import SAMPLES, at, check_base, fingerprint, identity, place_of, recorded
from engine.ingest import ingest
from engine.spec import parse, to_yaml
from engine.store import runs
from engine.store.connection import open_database
from tests.helpers import Run

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2,
          "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 32}  # fmt: skip
Q = "model.layers.{}.self_attn.q_proj"


def safetensors(path: Path, shapes: dict[str, tuple[int, ...]], fill: bytes = b"\1") -> Path:
    """A file of float32 tensors, every byte `fill`."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4
        for one in shape:
            size *= one
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.write(fill * end)
    return path


def model(folder: Path, fill: bytes = b"\1", **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "tokenizer.json").write_text("{}")
    safetensors(folder / "model.safetensors", {f"{Q.format(i)}.weight": (8, 8) for i in (0, 1)}, fill)
    return folder


def adapter(folder: Path, base: str, width: int = 8, layer: int = 1) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    name = f"base_model.model.{Q.format(layer)}"
    safetensors(
        folder / "adapter_model.safetensors", {f"{name}.lora_A.weight": (2, width), f"{name}.lora_B.weight": (8, 2)}
    )
    return folder


def run_of(place: Path, base: str, named: str | None = None, kept: bool = True, **shape: int) -> Trained:
    """A run directory with an adapter, as its start and its end left it."""
    run_dir = place / "runs" / "r0"
    spec = parse({"model": {"path": base}, "data": {"path": "d"}, "method": {"kind": "lora"}, "run": {"name": "n"}})
    path = adapter(run_dir / "model", named or base, **shape)
    (run_dir / "spec.yaml").write_text(to_yaml(spec))
    (run_dir / "environment.json").write_text(json.dumps({"base": identity(base)} if kept else {"seed": 1}))
    return Trained("r0", "n", spec, run_dir, path, True)


class TestFingerprint:
    def test_is_of_the_content_and_not_of_the_place(self, tmp_path: Path) -> None:
        one = model(tmp_path / "one")
        shutil.copytree(one, tmp_path / "two")
        (tmp_path / "link").symlink_to(one)
        (one / "README.md").write_text("not the model")
        assert fingerprint(one) == fingerprint(tmp_path / "two") == fingerprint(tmp_path / "link")

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja"])
    def test_sees_another_configuration_and_tokenizer(self, name: str, tmp_path: Path) -> None:
        one = model(tmp_path / "one")
        before = fingerprint(one)
        (one / name).write_text(json.dumps(CONFIG | {"rope_theta": 1.0}))
        assert fingerprint(one) != before

    def test_sees_other_weights_of_the_same_shape_and_other_shapes_of_the_same_bytes(self, tmp_path: Path) -> None:
        one = fingerprint(model(tmp_path / "one"))
        assert fingerprint(model(tmp_path / "two", fill=b"\2")) != one
        other = model(tmp_path / "three")
        safetensors(other / "model.safetensors", {f"{Q.format(i)}.weight": (4, 16) for i in (0, 1)})
        assert fingerprint(other) != one

    def test_sees_a_changed_stretch_of_a_large_file_and_reads_little_of_it(self, tmp_path: Path) -> None:
        """20 GiB, almost all of it a hole: it would take minutes to read it all."""
        one = model(tmp_path / "one")
        size, weights = 20 << 30, one / "model.safetensors"
        text = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        weights.write_bytes(struct.pack("<Q", len(text)) + text)
        with weights.open("r+b") as file:
            file.truncate(8 + len(text) + size)
        before = fingerprint(one)
        with weights.open("r+b") as file:
            file.seek(size // 2)
            file.write(b"\1" * (size // SAMPLES // 100))
        changed = fingerprint(one)
        with weights.open("r+b") as file:
            file.seek(size // 2)
            file.write(b"\1" * (2 * size // SAMPLES // 100))
        assert fingerprint(one) == changed  # too short to lie under a second sample, and the docstring says so
        assert changed != before

    def test_of_a_gguf_file(self, tmp_path: Path) -> None:
        one, two = tmp_path / "a.gguf", tmp_path / "b.gguf"
        one.write_bytes(b"GGUF" + b"\0" * 5_000_000)
        shutil.copy(one, two)
        assert fingerprint(one) == fingerprint(two)
        two.write_bytes(b"GGUF" + b"\0" * 4_999_999 + b"\1")
        assert fingerprint(one) != fingerprint(two)

    def test_nothing_there_is_no_identity(self, tmp_path: Path) -> None:
        assert identity(str(tmp_path / "none")) is None
        assert identity(str(tmp_path)) is None
        with pytest.raises(OSError, match="no model"):
            fingerprint(tmp_path)

    def test_a_snapshot_of_the_hub_is_found_by_its_id(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        snapshot = model(tmp_path / "models--me--tiny" / "snapshots" / "abc")
        (tmp_path / "models--me--tiny" / "refs").mkdir()
        (tmp_path / "models--me--tiny" / "refs" / "main").write_text("abc")
        assert place_of("me/tiny") == snapshot
        trained = run_of(tmp_path, "me/tiny", named=str(snapshot))
        assert check_base(trained) == []


class TestCheckBase:
    def test_the_same_is_fine(self, tmp_path: Path) -> None:
        assert check_base(run_of(tmp_path, str(model(tmp_path / "base")))) == []

    def test_an_old_run_without_a_hash_is_said(self, tmp_path: Path) -> None:
        (note,) = check_base(run_of(tmp_path, str(model(tmp_path / "base")), kept=False))
        assert "not known" in note

    def test_a_base_that_was_downloaded_first_is_known_by_its_event(self, tmp_path: Path) -> None:
        base = model(tmp_path / "base")
        trained = run_of(tmp_path, str(base), kept=False)
        EventFile(trained.run_dir / "events.jsonl").append(Base(str(base), fingerprint(base)))
        assert recorded(trained.run_dir) == identity(str(base))
        assert check_base(trained) == []

    def test_a_changed_base_is_refused_and_passes_anyway(self, tmp_path: Path) -> None:
        base = model(tmp_path / "base")
        trained = run_of(tmp_path, str(base))
        safetensors(base / "model.safetensors", {f"{Q.format(i)}.weight": (8, 8) for i in (0, 1)}, b"\3")
        with pytest.raises(RunError) as caught:
            check_base(trained)
        assert caught.value.title == "The base model has changed since training"
        assert "--anyway" in caught.value.hint
        (note,) = check_base(trained, anyway=True)
        assert note.startswith("The base model has changed since training, and --anyway goes on.")

    def test_a_base_that_moved_is_taken_where_it_is_now(self, tmp_path: Path) -> None:
        base = model(tmp_path / "base")
        trained = run_of(tmp_path, str(base))
        base.rename(tmp_path / "moved")
        with pytest.raises(RunError) as caught:
            check_base(trained)
        assert caught.value.title == "The base model is gone"
        assert str(base) in caught.value.message
        assert "--base" in caught.value.hint
        assert check_base(at(trained, str(tmp_path / "moved"))) == []
        with pytest.raises(RunError, match="not there"):
            at(trained, str(tmp_path / "nowhere"))

    def test_another_model_in_the_new_place_is_refused(self, tmp_path: Path) -> None:
        trained = run_of(tmp_path, str(model(tmp_path / "base")))
        other = model(tmp_path / "other", fill=b"\5")
        with pytest.raises(RunError) as caught:
            check_base(at(trained, str(other)))
        assert caught.value.title == "The base model has changed since training"
        assert f"--base {tmp_path / 'base'}" in caught.value.hint  # the old one is still there

    def test_a_model_of_the_hub_can_be_fetched_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        trained = run_of(tmp_path, "nobody/nothing", kept=False)
        (note,) = check_base(trained)
        assert "fetched from the hub again" in note
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(RunError, match="is gone"):
            check_base(trained)

    def test_an_adapter_of_another_base_is_refused(self, tmp_path: Path) -> None:
        model(tmp_path / "other", fill=b"\7")
        trained = run_of(tmp_path, str(model(tmp_path / "base")), named=str(tmp_path / "other"))
        with pytest.raises(RunError, match="belongs to another base"):
            check_base(trained)
        assert len(check_base(trained, anyway=True)) == 1

    @pytest.mark.parametrize("where", ["link", "copy", "dequantised"])
    def test_the_same_base_under_another_name_is_not_another(self, where: str, tmp_path: Path) -> None:
        base = model(tmp_path / "base")
        named = {
            "link": tmp_path / "link",
            "copy": tmp_path / "copy",
            "dequantised": tmp_path / "dequantised" / "m-0123456789ab",
        }[where]
        if where == "link":
            named.symlink_to(base)
        elif where == "copy":
            shutil.copytree(base, named)
        else:
            base = tmp_path / "m.gguf"
            base.write_bytes(b"GGUF")
        assert check_base(run_of(tmp_path, str(base), named=str(named))) == []

    @pytest.mark.parametrize(("shape", "why"), [({"width": 16}, "factor is for 16"), ({"layer": 7}, "has 2 layers")])
    def test_shapes_that_do_not_fit_are_refused_whatever_is_asked(
        self, shape: dict[str, int], why: str, tmp_path: Path
    ) -> None:
        trained = run_of(tmp_path, str(model(tmp_path / "base")), **shape)
        for anyway in (False, True):
            with pytest.raises(RunError, match="does not fit") as caught:
                check_base(trained, anyway)
            assert why in caught.value.message

    def test_packed_weights_say_nothing_of_shapes(self, tmp_path: Path) -> None:
        """A base that was stored in 4 bits."""
        base = model(tmp_path / "base")
        weights = base / "model.safetensors"
        weights.write_bytes(weights.read_bytes().replace(b'"F32", "shape": [8, 8]', b'"I32", "shape": [4,16]'))
        assert check_base(run_of(tmp_path, str(base))) == []

    def test_an_adapter_that_lacks_its_configuration_is_said(self, tmp_path: Path) -> None:
        trained = run_of(tmp_path, str(model(tmp_path / "base")))
        (trained.path / "adapter_config.json").write_text("{")
        with pytest.raises(RunError, match="cannot be read"):
            check_base(trained)

    def test_of_a_whole_model_only_the_base_counts(self, tmp_path: Path) -> None:
        trained = run_of(tmp_path, str(model(tmp_path / "base")), width=16)
        assert check_base(dataclasses.replace(trained, adapter=False)) == []


def test_the_event_of_a_download_comes_into_the_environment(tmp_path: Path) -> None:
    base = model(tmp_path / "base")
    trained = run_of(tmp_path, str(base), kept=False)
    EventFile(trained.run_dir / "events.jsonl").append(Base(str(base), fingerprint(base)))
    db = open_database(tmp_path / "experiments.db")
    runs.insert(db, "r0", trained.spec, None, "elsewhere", 1000.0)
    runs.add_environment(db, "r0", {"seed": 1})
    ingest(db, "r0", trained.run_dir)
    assert runs.one(db, "r0")["environment"] == {"seed": 1, "base": identity(str(base))}
    db.close()


def test_a_run_keeps_the_hash_of_its_base(reported_run: Run, tiny_model: Path) -> None:
    """In its directory, in the database, and where people look."""
    known = {"path": str(tiny_model), "sha256": fingerprint(tiny_model)}
    assert recorded(reported_run.directory) == known
    assert reported_run.shown()["environment"]["base"] == known
    assert f"sha256 {known['sha256'][:16]}" in reported_run.deck("show", reported_run.id).stdout
