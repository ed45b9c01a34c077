"""Machines with no, one, two, four and eight cards, as NVML and the queue describe them. NOW is that of `fakes`."""

import math
from dataclasses import replace

from tests.tuiapp.fakes import NOW
from tuiapp.machine_snapshot import DayLine, HappenedLine, LeaseLine, ProcessLine, QueueLine
from tuiapp.snapshot import GpuLine, Machine

RTX, H100 = "NVIDIA GeForce RTX 4090", "NVIDIA H100 80GB HBM3"
FACTS = (
    ("UUID", "GPU-5f0c1e2a-1b7e-4d09-9a6f-0e2b4c6d8f10"), ("throttling", "none"), ("SM clock", "1,755 MHz of 1,980"),
    ("memory clock", "2,619 MHz of 2,619"), ("PCIe", "5.0 x16"), ("ECC errors", "0"), ("NVLink", "18 of 18 up"),
    ("power limit", "700 W"), ("slows down at", "87 °C"), ("state", "P0"), ("compute capability", "9.0"),
    ("VBIOS", "96.00.74.00.01"),
)  # fmt: skip


def lease(run: str, name: str, minutes: float | None, **more: object) -> LeaseLine:
    """A run of ours that ends so many minutes from now."""
    ends = NOW + minutes * 60 if minutes is not None else None
    return LeaseLine(run, name, "wil", ends_at=ends, step=262, total_steps=414, best_eval=1.142, **more)  # type: ignore[arg-type]


def history(level: float, known: int = 20) -> tuple[float, ...]:
    """Ten minutes around a level, of which only the last are known."""
    wave = [max(0.0, min(100.0, level + 6 * math.sin(i * 1.3))) for i in range(20)]
    return tuple(wave[i] if i >= 20 - known else math.nan for i in range(20))


def gpu(index: int, name: str, used: float | None, total: float | None, load: float | None, watts: float | None,
        heat: float | None, **more: object) -> GpuLine:  # fmt: skip
    """A card with everything that is known of it."""
    known = {"uuid": f"GPU-{index}", "facts": FACTS, "processes": (), "throttle": "", "power_limit": 450.0}
    if load is not None:
        known["history"] = history(load)
    return GpuLine(index, name, used, total, load, watts, heat, **(known | more))  # type: ignore[arg-type]


SUPPORT = lease("mbx3q7", "support-lora-r16", 19)
ONE = Machine(
    "gpubox",
    (gpu(0, RTX, 19.3, 24.0, 98, 402, 71, leased=True, leases=(SUPPORT,),
         processes=(ProcessLine(41207, "engine.worker", "wil", 18.9, 1980, mine=True),
                    ProcessLine(2210, "Xorg", "root", 0.2, 31 * 86400, graphics=True))),),
    None, "AMD Ryzen 9 7950X 16-Core Processor", 11, 18.2, 62.7, user="wil", cores=32, driver="580.65.06", cuda="13.0",
    disk="/home/wil/ft", disk_free=212.0, disk_total=931.0,
)  # fmt: skip

TWO = replace(ONE, gpus=(ONE.gpus[0], gpu(1, RTX, 21.6, 24.0, 100, 431, 83, processes=(
    ProcessLine(38811, "python train.py", "alice", 21.4, 4 * 3600),))))  # fmt: skip

QUEUE = (
    QueueLine("k1", "mbx5a1", "support-70b-qlora", "wil", needs="2 x 22.8 GiB", waits_for="a second free card",
              would_get="GPU 2 and 0", starts=NOW + 19 * 60, seconds=4.4 * 3600),
    QueueLine("k2", "mbx4aa", "support-lora-r64", "wil", needs="1 x 21.1 GiB", waits_for="its turn behind 1"),
    QueueLine("k3", "abc123", "their-run", "alice", mine=False, here=False, needs="1 x 9.1 GiB",
              waits_for="9.1 GiB free on one card; alice uses 21.4 GiB of GPU 1", would_get="GPU 2", starts=NOW + 5 * 3600,
              seconds=600),
)  # fmt: skip

FOUR = replace(
    ONE,
    host="quad",
    gpus=(
        ONE.gpus[0],
        replace(TWO.gpus[1], throttle="thermal, power"),
        gpu(2, RTX, 0.3, 24.0, 0, 22, 34),
        gpu(3, RTX, None, 24.0, None, None, None, lost=True, processes=None, facts=(), throttle=None, power_limit=None),
    ),
    queue=QUEUE,
)

MISTRAL = lease("mbx6m0", "mistral-full", 107)
EIGHT = replace(
    ONE,
    host="hgx1",
    cpu_percent=38,
    cores=192,
    ram_used=611.0,
    ram_total=2016.0,
    disk_free=5.1 * 1024,
    disk_total=14.0 * 1024,
    gpus=(
        *(gpu(i, H100, 63.4, 79.6, 98, 688, 66 + i, leased=True, leases=(MISTRAL,), power_limit=700.0,
              processes=(ProcessLine(51822 + i, "engine.worker", "wil", 62.9, 7600, mine=True),
                         *((ProcessLine(2210, "Xorg", "root", 0.1, 31 * 86400, graphics=True),) if i == 0 else ())))
          for i in range(4)),
        gpu(4, H100, 46.2, 79.6, 91, 602, 61, leased=True, leases=(lease("mbx3q7", "qwen-32b-qlora", 29),), power_limit=700.0,
            processes=(ProcessLine(60001, "engine.worker", "wil", 45.8, 900, mine=True),)),
        gpu(5, H100, 71.9, 79.6, 64, 410, 58, power_limit=700.0,
            processes=(ProcessLine(38811, "vllm serve", "alice", 71.3, 3 * 86400),)),
        gpu(6, H100, 0.6, 79.6, 0, 74, 33, power_limit=700.0),
        gpu(7, H100, 40.1, 79.6, 12, 118, 41, power_limit=700.0, held="wil",
            processes=(ProcessLine(71001, "jupyter-lab", "wil", 39.5, 5400, mine=True),)),
    ),
    queue=(replace(QUEUE[0], needs="2 x 44.1 GiB", would_get="GPU 6 and 4"), *QUEUE[1:]),
    days=(DayLine(NOW - 40000, 48.0), DayLine(NOW - 126400, 96.5), DayLine(NOW - 212800, 20.1)),
    happened=(
        HappenedLine(NOW - 300, "support-70b-qlora", "waits for a second free card"),
        HappenedLine(NOW - 7600, "mistral-full", "worker started: pid 51822"),
    ),
)  # fmt: skip

NONE = Machine(
    "laptop", (), "No NVIDIA driver is installed (NVML was not found).", "12th Gen Intel(R) Core(TM) i7-1260P", 12, 9.8, 15.4,
    user="wil", cores=16, disk="/home/wil/ft", disk_free=88.0, disk_total=475.0,
    on_cpu=(lease("mbx3q7", "support-lora-r16", 19),),
    queue=(QueueLine("k9", "mbx4aa", "support-lora-r64", "wil", needs="the CPU", waits_for="support-lora-r16 to end",
                     would_get="CPU", starts=NOW + 19 * 60, seconds=1200),),
)  # fmt: skip
SILENT = replace(
    NONE,
    gpu_problem="The NVIDIA driver and its library differ in version: reboot, or reload the driver.",
    on_cpu=(),
    queue=(),
)
MACHINES = {"none": NONE, "silent": SILENT, "one": ONE, "two": TWO, "four": FOUR, "eight": EIGHT}
