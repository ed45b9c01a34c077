"""The supervisor's GPUs: leased once, kept over a retry, and held by the worker too. The cards are invented, the locks real."""

import os
import sys
from pathlib import Path

import pytest

from engine import supervisor
from engine.events import Waiting
from engine.files import read_records
from engine.hardware import Gpu, Hardware, Sampler
from engine.leases import try_lease
from engine.outcome import worker_command, worker_environment
from engine.spec import parse, to_yaml
from engine.supervisor import Supervisor
from tests.engine.fake_nvml import Card, FakeNvml, memory

CARD = Gpu(0, "GPU-test", "RTX 4090", 24.0)


@pytest.fixture
def one_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """A supervisor on a machine with one card."""
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(supervisor, "probe", lambda: Hardware("h", (CARD,), None, "580", "cpu", 2, 8.0))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.yaml").write_text(to_yaml(parse({"model": {"path": "/m"}, "data": {"path": "/d.jsonl"}})))
    watching = Supervisor(tmp_path / "run", tmp_path / "experiments.db")
    watching.sampler = sampler("GPU-test")
    return watching


def sampler(*uuids: str) -> Sampler:
    """The numbers of cards that nobody uses."""
    return Sampler(FakeNvml(*(Card({"UUID": uuid, "MemoryInfo": memory(24564, 300)}) for uuid in uuids)))


def test_a_retry_keeps_the_card_that_it_has(one_card: Supervisor) -> None:
    assert one_card._lease_gpus() is None
    assert one_card.gpus == [CARD]
    assert one_card._lease_gpus() is None, "asked again it must not wait for itself"
    assert try_lease([CARD], 1) is None


def test_a_queued_run_says_so_and_can_be_stopped(one_card: Supervisor) -> None:
    taken = try_lease([CARD], 1)
    assert taken is not None
    (one_card.run_dir / "STOP").touch()
    ended = one_card._lease_gpus()
    assert ended is not None
    assert ended.status == "stopped"
    said = [r.event for r in read_records(one_card.run_dir / "supervisor.jsonl")]
    assert Waiting("waits for a free card") in said


def test_the_worker_holds_the_lease_too(one_card: Supervisor) -> None:
    """When the supervisor is killed the card is not free: its worker still trains on it."""
    assert one_card._lease_gpus() is None
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (one_card.run_dir / "output.log").open("ab") as output:
        child = supervisor._spawn(sleep, dict(os.environ), output, one_card.run_dir, one_card.leases)
    for fd in one_card.leases:
        os.close(fd)
    assert try_lease([CARD], 1) is None
    child.kill()
    child.wait()
    assert try_lease([CARD], 1) is not None


def test_layers_take_all_cards_or_wait(one_card: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process, its layers laid over every card that it may use."""
    cards = tuple(Gpu(i, f"GPU-{i}", "RTX 4090", 24.0) for i in range(3))
    monkeypatch.setattr(supervisor, "probe", lambda: Hardware("h", cards, None, "580", "cpu", 2, 8.0))
    one_card.spec = parse({"model": {"path": "/m"}, "data": {"path": "/d"}, "compute": {"sharding": "layers"}})
    one_card.sampler = sampler("GPU-0", "GPU-1", "GPU-2")
    taken = try_lease([cards[1]], 1)
    assert taken is not None
    (one_card.run_dir / "STOP").touch()
    assert one_card._lease_gpus() is not None
    said = [r.event for r in read_records(one_card.run_dir / "supervisor.jsonl")]
    assert Waiting("waits for 1 more free card") in said
    os.close(taken[1][0])
    assert one_card._lease_gpus() is None
    assert one_card.gpus == list(cards)
    assert worker_environment(one_card.gpus)["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1,GPU-2"
    assert "torch.distributed.run" not in worker_command(one_card.run_dir, one_card.spec, 1, "", {})


def test_without_the_card_it_was_planned_for_it_does_not_train_on_the_cpu(
    one_card: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "probe", lambda: Hardware("h", (), "No NVIDIA driver.", None, "cpu", 2, 8.0))
    ended = one_card._lease_gpus()
    assert ended is not None
    assert ended.status == "failed"
    assert "No NVIDIA driver" in ended.text
