"""The traced step from outside: a child process, its errors, and what is kept of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.errors import TuneDeckError
from engine.jobs import answer
from engine.planner import exact as module
from engine.planner.exact import exact
from engine.spec import parse
from tests.traced import LLAMA, spec_of

SMALL = LLAMA | {"num_hidden_layers": 1, "vocab_size": 500}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEDECK_CACHE", str(tmp_path))
    return tmp_path / "traces"


def key(method: dict[str, Any], training: dict[str, Any], config: dict[str, Any] = SMALL, ragged: bool = False) -> str:
    return module._key(config, spec_of(method, training), ragged)


def test_a_trace_is_made_once_and_kept(cache: Path) -> None:
    spec = spec_of({}, {})
    first = exact(SMALL, spec)
    assert first["peak_reserved"] >= first["peak_allocated"] > first["weights"] > 500 * 256 * 2 * 2
    (file,) = cache.iterdir()
    assert json.loads(file.read_text()) == first
    assert file.stat().st_mode & 0o077 == 0
    file.write_text(json.dumps(first | {"weights": 1}))
    assert exact(SMALL, spec)["weights"] == 1
    file.write_text('{"weights": ')  # cut short: made again
    assert exact(SMALL, spec) == first


def test_what_determines_a_trace_is_its_key() -> None:
    usual = key({}, {})
    assert key({}, {"learning_rate": 1e-3, "epochs": 9}) == usual
    others = [
        key({"rank": 16}, {}), key({"kind": "full"}, {}), key({}, {"max_length": 512}), key({}, {"accumulation": 2}),
        key({"kind": "ia3"}, {}), key({}, {"fused_head": False}),
        key({}, {"optimizer": "adamw_8bit"}), key({}, {}, ragged=True), key({}, {}, SMALL | {"hidden_size": 512}),
    ]  # fmt: skip
    assert len({usual, *others}) == len(others) + 1


def test_another_version_of_a_library_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = key({}, {})
    monkeypatch.setattr(module, "_version", lambda package: "9.9" if package == "peft" else "1.0")
    assert key({}, {}) != usual


def test_what_cannot_be_traced_is_said_and_not_kept(cache: Path) -> None:
    with pytest.raises(TuneDeckError, match="no model type nonsense") as raised:
        exact(SMALL | {"model_type": "nonsense"}, spec_of({}, {}))
    assert raised.value.hint
    assert not cache.exists()


@pytest.mark.parametrize(
    ("method", "changes", "says"),
    [({}, {"objective": "dpo"}, "dpo"), ({}, {"compute": {"sharding": "layers"}}, "one card"), ({"kind": "shira"}, {}, "SHiRA")],
)  # fmt: skip
def test_a_step_that_would_be_traced_wrongly_is_refused(method: Any, changes: Any, says: str) -> None:
    from engine.worker.memtrace import trace

    spec = parse(spec_of(method, {}).model_dump() | changes)
    with pytest.raises(TuneDeckError, match=says) as raised:
        trace(SMALL, spec)
    assert raised.value.hint


def test_a_child_that_dies_is_told_by_its_last_words() -> None:
    done = subprocess.CompletedProcess(["x"], -9, stdout="", stderr="Traceback\nMemoryError: no\x1b[31m room\n")
    with pytest.raises(TuneDeckError, match="MemoryError: no room"):
        answer(done, "The trace")


def test_the_parent_does_without_torch() -> None:
    program = "import sys, engine.planner.exact; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
    )
