"""What NVML says, or does not say, becomes values and never an exception."""

import copy
import os
import subprocess
import sys

import psutil
import pynvml
import pytest

from engine import hardware
from engine.hardware import CardFacts, Gpu, GpuProcess, GpuSample, Sampler, probe, short_command
from tests.engine.fake_nvml import A100_MIG, LOST, MIB, NO_POWER, RTX_4090, Card, FakeNvml, process

GIB = 1024 * MIB


def test_a_card() -> None:
    nvml = FakeNvml(RTX_4090)
    machine = probe(nvml)
    assert machine.gpus == (Gpu(0, "GPU-5c3d8f2a-1b7e-4d09-9a6f-0e2b4c6d8f10", "RTX 4090", 24564 * MIB / GIB, (8, 9)),)
    assert (machine.problem, machine.driver) == (None, "570.86.15")
    assert nvml.open == 0, "NVML was left open"


def test_a_card_in_mig_mode_lists_its_slices() -> None:
    first, second = probe(FakeNvml(A100_MIG)).gpus
    assert (first.uuid, first.name, first.mig, first.index) == (
        "MIG-11111111-aaaa",
        "A100-SXM4-80GB MIG 3g.40gb",
        True,
        0,
    )
    assert first.memory_total == pytest.approx(39.25)
    assert (second.uuid, second.mig, second.compute_capability) == ("MIG-22222222-bbbb", True, None)


def test_a_lost_card_is_listed_and_hides_no_other() -> None:
    lost, good = probe(FakeNvml(LOST, RTX_4090)).gpus
    assert (lost.index, lost.memory_total) == (0, None)
    assert "lost" in lost.name
    assert (good.index, good.name) == (1, "RTX 4090")


def test_a_card_that_answers_nothing_is_a_card_of_unknowns() -> None:
    assert probe(FakeNvml(Card())).gpus == (Gpu(0, "index-0", "GPU", None),)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "No NVIDIA driver is installed"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "not loaded"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "differ in version"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "NVML does not answer"),
    ],
)
def test_why_there_is_no_gpu_is_one_sentence(code: int, words: str) -> None:
    machine = probe(FakeNvml(RTX_4090, refuses=code))
    assert machine.gpus == ()
    assert machine.driver is None
    assert words in (machine.problem or "")
    assert (machine.problem or "").endswith(".")
    assert Sampler(FakeNvml(RTX_4090, refuses=code)).sample() == []


def test_a_driver_without_cards_says_so() -> None:
    machine = probe(FakeNvml(driver=b"535.54.03"))
    assert machine.problem == "The driver answers but shows no GPU."
    assert machine.driver == "535.54.03"


def test_names_are_cleaned() -> None:
    machine = probe(FakeNvml(Card({"Name": "NVIDIA \x1b[31mEvil\nCard", "UUID": b"\xffGPU\x00"}), driver="1\x1b[2J"))
    assert (machine.gpus[0].name, machine.gpus[0].uuid, machine.driver) == ("Evil Card", "\ufffdGPU", "1")


def test_this_machine_whatever_it_is() -> None:
    machine = probe()
    assert machine.gpus or machine.problem
    assert machine.host
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.ram_total > 0.1
    assert hardware.ram_used() > 0
    assert (hardware.oom_kills() or 0) >= 0


def test_samples_are_in_readable_units() -> None:
    assert Sampler(FakeNvml(RTX_4090)).sample() == [
        GpuSample(0, 19763 * MIB / GIB, 98.0, 402.31, 71.0, str(RTX_4090.answers["UUID"]))
    ]


def test_what_a_card_does_not_measure_is_none() -> None:
    quiet, split, same, lost = Sampler(FakeNvml(NO_POWER, A100_MIG, LOST)).sample()
    assert (quiet.power, quiet.temperature, quiet.utilization) == (None, 71.0, 98.0)
    assert (split.gpu, split.utilization, split.power) == (1, None, None)
    assert split.uuid != same.uuid, "each MIG device has figures of its own"
    assert lost == GpuSample(2, None, None, None, None, "index-2")


def test_a_card_lost_between_two_samples() -> None:
    card = copy.deepcopy(RTX_4090)
    sampler = Sampler(FakeNvml(card))
    assert sampler.sample()[0].memory_used is not None
    card.lost = True
    assert sampler.sample() == [GpuSample(0, None, None, None, None, str(RTX_4090.answers["UUID"]))]


def test_zero_is_measured_not_missing() -> None:
    idle = Card({"PowerUsage": 0, "Temperature": 0})
    assert Sampler(FakeNvml(idle)).sample() == [GpuSample(0, None, None, 0.0, 0.0, "index-0")]


@pytest.mark.parametrize(
    ("bits", "words"),
    [(0, ""), (0x1, ""), (0x2 | 0x10 | 0x100, ""), (0x20, "thermal"), (0x40 | 0x8, "thermal, hw slowdown"), (0x4, "power"),
     (0x80, "power"), (0x4 | 0x20, "thermal, power")],
)  # fmt: skip
def test_why_the_clocks_are_held_down(bits: int, words: str) -> None:
    card = Card({"CurrentClocksEventReasons": bits})
    assert Sampler(FakeNvml(card)).sample()[0].throttle == words
    assert Sampler(FakeNvml(Card({"CurrentClocksThrottleReasons": bits}))).sample()[0].throttle == words, "older driver"


def test_a_card_that_does_not_tell_its_reasons() -> None:
    assert Sampler(FakeNvml(RTX_4090, LOST)).sample()[1].throttle is None


class TestProcesses:
    def test_who_where_what_and_since_when(self) -> None:
        card = Card({"UUID": "A", "ComputeRunningProcesses": [process(os.getpid(), 2048)]})
        [one] = Sampler(FakeNvml(card)).processes()["A"] or ()
        me = psutil.Process()
        assert (one.pid, one.gib, one.kind, one.user) == (os.getpid(), 2.0, "compute", me.username())
        assert one.started == me.create_time()
        assert one.command

    def test_the_most_memory_first_and_nobody_twice(self) -> None:
        compute = [process(os.getpid(), 10), process(os.getppid(), 30)]
        card = Card(
            {"UUID": "A", "ComputeRunningProcesses": compute, "GraphicsRunningProcesses": [process(os.getpid(), 10)]}
        )
        found = Sampler(FakeNvml(card)).processes()["A"] or ()
        assert [(one.pid, one.kind) for one in found] == [(os.getppid(), "compute"), (os.getpid(), "compute")]

    def test_of_another_container_only_the_memory_is_known(self) -> None:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        card = Card({"UUID": "A", "ComputeRunningProcesses": [process(gone.pid, None)]})
        assert Sampler(FakeNvml(card)).processes() == {"A": (GpuProcess(gone.pid, None),)}

    def test_not_told_is_not_nobody(self) -> None:
        idle = Card({"UUID": "B", "ComputeRunningProcesses": []})
        assert Sampler(FakeNvml(RTX_4090, idle, LOST)).processes() == {
            RTX_4090.answers["UUID"]: None, "B": (), "index-2": None
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            (["/usr/bin/python3.11", "-P", "-m", "engine.worker", "/home/u/runs/mbx", "--attempt=1"], "engine.worker"),
            (["python", "-u", "code/train.py", "--token", "hf_secret"], "python train.py"),
            (["/venv/bin/python", "/venv/bin/vllm", "serve", "meta-llama/Llama"], "vllm serve"),
            (["python3", "-c", "import torch; key='secret'"], "python3"),
            (["python"], "python"),
            (["/usr/lib/xorg/Xorg", "vt2", "-auth", "/run/user"], "Xorg"),
            (["VLLM::EngineCore\x1b[2J"], "VLLM::EngineCore"),
            (["postgres: writer process"], "postgres:"),
            ([], ""),
            ([""], ""),
        ],
    )
    def test_what_a_process_is_called(self, arguments: list[str], name: str) -> None:
        assert short_command(arguments) == name


def test_everything_else_that_a_card_tells() -> None:
    card = Card({
        "UUID": "A", "ClockInfo": {1: 1755, 2: 2619}.__getitem__, "MaxClockInfo": {1: 1980, 2: 2619}.__getitem__,
        "EnforcedPowerLimit": 700_000, "CurrPcieLinkGeneration": 5, "CurrPcieLinkWidth": 16, "MaxPcieLinkGeneration": 5,
        "TotalEccErrors": lambda kind, _: {1: 0}[kind], "NvLinkState": {i: int(i != 3) for i in range(36)}.__getitem__,
        "TemperatureThreshold": {1: 90}.__getitem__, "PerformanceState": 0, "VbiosVersion": b"96.00\x1b[1m",
    })  # fmt: skip
    assert Sampler(FakeNvml(card)).facts() == {"A": CardFacts(
        sm_clock=1755, sm_clock_max=1980, memory_clock=2619, memory_clock_max=2619, power_limit=700.0, pcie=(5, 16),
        ecc_errors=0, nvlinks=(35, 36), slows_at=90, state=0, vbios="96.00",
    )}  # fmt: skip


def test_a_card_that_tells_nothing_else() -> None:
    assert Sampler(FakeNvml(Card({"UUID": "A"}), LOST)).facts() == {"A": CardFacts(), "index-1": CardFacts()}
