"""What this machine has: GPUs through NVML, CPU and memory.

A missing driver is one sentence in `Hardware.problem`; a query that a card does not support is None; a card in MIG mode
lists its MIG devices. Nothing here raises for what the hardware lacks.
"""

import contextlib
import functools
import os
import platform
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pynvml

from engine.text import clean

GIB = 1024**3


@dataclass(frozen=True)
class Gpu:
    """One card, or one MIG device (`mig`). Memory in GiB."""

    index: int
    uuid: str
    name: str
    memory_total: float | None
    compute_capability: tuple[int, int] | None = None
    mig: bool = False


@dataclass(frozen=True)
class GpuSample:
    """One moment of one card. Memory in GiB, utilization in percent, power in W, temperature in °C.

    `throttle`: why the clocks are held down now, of THROTTLE with commas; "" for no reason, None where it is not told.
    """

    gpu: int
    memory_used: float | None
    utilization: float | None
    power: float | None
    temperature: float | None
    uuid: str = ""
    throttle: str | None = None


THROTTLE = {"thermal": 0x20 | 0x40, "power": 0x4 | 0x80, "hw slowdown": 0x8}
"""NVML's clocks event reasons: heat by software or hardware, the power cap or brake, the card's own slowdown. The other
bits (idle, clocks that somebody set) are no trouble."""


@dataclass(frozen=True)
class GpuProcess:
    """A process with memory on a card; `kind` is compute or graphics. GiB is None where the driver does not tell.

    `user`, `command` and `started` (unix seconds) are None for a process that the system hides, as one outside of our
    container.
    """

    pid: int
    gib: float | None
    kind: str = "compute"
    user: str | None = None
    command: str | None = None
    started: float | None = None


@dataclass(frozen=True)
class CardFacts:
    """What else NVML tells of a card. Clocks in MHz, power in W, fan in percent, temperature in °C.

    `pcie` is (generation, lanes); `ecc_errors` counts what could not be corrected since the driver was loaded;
    `nvlinks` is (up, all).
    """

    sm_clock: int | None = None
    sm_clock_max: int | None = None
    memory_clock: int | None = None
    memory_clock_max: int | None = None
    power_limit: float | None = None
    pcie: tuple[int, int] | None = None
    pcie_max: tuple[int, int] | None = None
    ecc_errors: int | None = None
    nvlinks: tuple[int, int] | None = None
    fan: int | None = None
    slows_at: int | None = None
    state: int | None = None
    vbios: str | None = None


@dataclass(frozen=True)
class Hardware:
    """The machine. `problem` says why there are no GPUs to see; RAM in GiB, a container's limit where there is one.

    `cuda` is the newest version that the driver can run, as in 13.0.
    """

    host: str
    gpus: tuple[Gpu, ...]
    problem: str | None
    driver: str | None
    cpu: str
    cores: int
    ram_total: float
    cuda: str | None = None


def _query(nvml: Any, name: str, *args: Any) -> Any:
    """An NVML query, or None if the driver or the card cannot answer it."""
    try:
        return getattr(nvml, name)(*args)
    except (nvml.NVMLError, AttributeError, UnicodeDecodeError):
        return None


def _text(value: Any) -> str:
    return clean(value.decode(errors="replace") if isinstance(value, bytes) else str(value), keep_lines=False)


def probe(nvml: Any = pynvml) -> Hardware:
    """Look at the machine once. Never raises for missing hardware."""
    gpus: list[Gpu] = []
    problem, driver, cuda = None, None, None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        problem = _why_not(nvml, error)
    else:
        driver, cuda = _query(nvml, "nvmlSystemGetDriverVersion"), _query(nvml, "nvmlSystemGetCudaDriverVersion_v2")
        for index in range(_query(nvml, "nvmlDeviceGetCount") or 0):
            gpus += [_describe(nvml, index, handle, mig) for handle, mig in _handles(nvml, index)]
        _query(nvml, "nvmlShutdown")
        problem = None if gpus else "The driver answers but shows no GPU."
    return Hardware(
        host=socket.gethostname(), gpus=tuple(gpus), problem=problem, driver=_text(driver) if driver else None,
        cpu=_cpu_name(), cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        ram_total=ram_total(), cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
    )  # fmt: skip


def _why_not(nvml: Any, error: Exception) -> str:
    if isinstance(error, nvml.NVMLError_LibraryNotFound):
        return "No NVIDIA driver is installed (NVML was not found)."
    if isinstance(error, nvml.NVMLError_DriverNotLoaded):
        return "The NVIDIA driver is installed but not loaded: try nvidia-smi."
    if isinstance(error, nvml.NVMLError_LibRmVersionMismatch):
        return "The NVIDIA driver and its library differ in version: reboot, or reload the driver."
    return f"NVML does not answer: {_text(error)}."


def _handles(nvml: Any, index: int) -> list[tuple[Any, bool]]:
    """(handle, is a MIG device) of the card at an index, or of its MIG devices if it is split; (None, False) if lost."""
    handle = _query(nvml, "nvmlDeviceGetHandleByIndex", index)
    mode = _query(nvml, "nvmlDeviceGetMigMode", handle) if handle is not None else None
    if not mode or mode[0] != 1:
        return [(handle, False)]
    count = _query(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0
    slices = (_query(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", handle, i) for i in range(count))
    return [(one, True) for one in slices if one is not None]


def _describe(nvml: Any, index: int, handle: Any, mig: bool) -> Gpu:
    if handle is None:
        return Gpu(index, f"index-{index}", "lost: the driver does not reach it", None)
    memory = _query(nvml, "nvmlDeviceGetMemoryInfo", handle)
    capability = _query(nvml, "nvmlDeviceGetCudaComputeCapability", handle)
    return Gpu(
        index=index,
        uuid=_uuid(nvml, index, handle),
        name=_text(_query(nvml, "nvmlDeviceGetName", handle) or "GPU").removeprefix("NVIDIA ").removeprefix("GeForce "),
        memory_total=memory.total / GIB if memory else None,
        compute_capability=tuple(capability) if capability else None,
        mig=mig,
    )


def _uuid(nvml: Any, index: int, handle: Any) -> str:
    return _text((_query(nvml, "nvmlDeviceGetUUID", handle) if handle is not None else None) or f"index-{index}")


class Sampler:
    """Reads the cards' numbers again and again, with NVML kept open."""

    def __init__(self, nvml: Any = pynvml) -> None:
        self._nvml = nvml
        self._handles: list[tuple[int, str, Any]] = []
        try:
            nvml.nvmlInit()
        except nvml.NVMLError:
            return
        for index in range(_query(nvml, "nvmlDeviceGetCount") or 0):
            self._handles += [(index, _uuid(nvml, index, h), h) for h, _ in _handles(nvml, index)]

    def sample(self) -> list[GpuSample]:
        """One sample a card or MIG device; a card that was lost gives a sample of Nones."""
        return [self._one(index, uuid, handle) for index, uuid, handle in self._handles]

    def _one(self, index: int, uuid: str, handle: Any) -> GpuSample:
        nvml = self._nvml
        if handle is None:
            return GpuSample(index, None, None, None, None, uuid)
        memory = _query(nvml, "nvmlDeviceGetMemoryInfo", handle)
        rates = _query(nvml, "nvmlDeviceGetUtilizationRates", handle)
        power = _query(nvml, "nvmlDeviceGetPowerUsage", handle)
        heat = _query(nvml, "nvmlDeviceGetTemperature", handle, 0)  # 0: NVML_TEMPERATURE_GPU
        reasons = _query(nvml, "nvmlDeviceGetCurrentClocksEventReasons", handle)
        if reasons is None:  # its name until driver 535
            reasons = _query(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        return GpuSample(
            gpu=index,
            memory_used=memory.used / GIB if memory else None,
            utilization=float(rates.gpu) if rates else None,
            power=power / 1000 if power is not None else None,
            temperature=float(heat) if heat is not None else None,
            uuid=uuid,
            throttle=None if reasons is None else ", ".join(n for n, bits in THROTTLE.items() if reasons & bits),
        )

    def processes(self) -> dict[str, tuple[GpuProcess, ...] | None]:
        """By UUID the processes with memory on each card, those with the most first; None where they are not told."""
        return {uuid: _processes(self._nvml, handle) for _, uuid, handle in self._handles}

    def facts(self) -> dict[str, CardFacts]:
        """By UUID what else is known of each card."""
        return {uuid: _facts(self._nvml, handle) for _, uuid, handle in self._handles}


def _processes(nvml: Any, handle: Any) -> tuple[GpuProcess, ...] | None:
    lists = {
        kind: _query(nvml, f"nvmlDeviceGet{kind.capitalize()}RunningProcesses", handle) if handle is not None else None
        for kind in ("graphics", "compute")
    }
    if lists["compute"] is None:
        return None
    found = {p.pid: _process(p.pid, p.usedGpuMemory, kind) for kind, told in lists.items() for p in told or ()}
    return tuple(sorted(found.values(), key=lambda one: (-(one.gib or 0.0), one.pid)))


def _process(pid: int, used: int | None, kind: str) -> GpuProcess:
    gib = used / GIB if used is not None else None
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            user, started = clean(process.username(), keep_lines=False), float(process.create_time())
            command = short_command(process.cmdline()) or clean(process.name(), keep_lines=False)
    except (psutil.Error, KeyError):
        return GpuProcess(pid, gib, kind)
    return GpuProcess(pid, gib, kind, user, command, started)


def short_command(arguments: list[str]) -> str:
    """What people call a process: `python train.py`, `engine.worker`, `vllm serve`; never its options, which may hold keys."""
    parts = [clean(part, keep_lines=False) for part in arguments if part.strip()]
    if not parts:
        return ""
    name, rest = Path(parts[0].split()[0]).name, parts[1:]
    if not name.startswith("python"):
        return name[:80]
    if "-m" in rest[:-1]:
        return rest[rest.index("-m") + 1][:80]
    script, after = next(((part, rest[i + 1 :]) for i, part in enumerate(rest) if not part.startswith("-")), ("", []))
    if not script or "-c" in rest:
        return name
    if script.endswith(".py"):
        return f"python {Path(script).name}"[:80]
    return " ".join([Path(script).name, *(word for word in after[:1] if word.isalpha())])[:80]


def _facts(nvml: Any, handle: Any) -> CardFacts:
    if handle is None:
        return CardFacts()

    def ask(name: str, *args: int) -> Any:
        return _query(nvml, f"nvmlDeviceGet{name}", handle, *args)

    def pair(first: str, second: str) -> tuple[int, int] | None:
        a, b = ask(first), ask(second)
        return (int(a), int(b)) if a is not None and b is not None else None

    limit, vbios = ask("EnforcedPowerLimit"), ask("VbiosVersion")
    links = [state for state in (ask("NvLinkState", i) for i in range(36)) if state is not None]  # 36: NVML's most
    return CardFacts(
        sm_clock=ask("ClockInfo", 1), sm_clock_max=ask("MaxClockInfo", 1),  # 1: NVML_CLOCK_SM
        memory_clock=ask("ClockInfo", 2), memory_clock_max=ask("MaxClockInfo", 2),  # 2: NVML_CLOCK_MEM
        power_limit=limit / 1000 if limit is not None else None,
        pcie=pair("CurrPcieLinkGeneration", "CurrPcieLinkWidth"),
        pcie_max=pair("MaxPcieLinkGeneration", "MaxPcieLinkWidth"),
        ecc_errors=ask("TotalEccErrors", 1, 0),  # 1: uncorrected, 0: since the driver was loaded
        nvlinks=(sum(map(bool, links)), len(links)) if links else None,
        fan=ask("FanSpeed"),
        slows_at=ask("TemperatureThreshold", 1),  # 1: NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        state=ask("PerformanceState"),
        vbios=_text(vbios) if vbios else None,
    )  # fmt: skip


@functools.cache
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return clean(name or platform.processor() or platform.machine(), keep_lines=False)


def _cgroups() -> list[Path]:
    """The directories of this process's cgroup (version 2) and of those around it, the innermost first."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    path = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    own = root / path
    return [own, *(p for p in own.parents if p == root or root in p.parents)]


def _memory_limit() -> int | None:
    """The smallest limit of the cgroups that this process is in, bytes; None where there is none."""
    limits = []
    for group in _cgroups():
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            limits.append(int((group / "memory.max").read_text()))
    return min(limits, default=None)


def ram_total() -> float:
    """GiB of RAM that this process may use."""
    total = psutil.virtual_memory().total
    return min(total, _memory_limit() or total) / GIB


def ram_used() -> float:
    """GiB of RAM in use that cannot be given back at once."""
    memory = psutil.virtual_memory()
    return float(memory.total - memory.available) / GIB


def ram_free() -> float:
    """GiB of RAM that this process could still take: what the machine has, within the limits of its cgroups."""
    free = psutil.virtual_memory().available
    for group in _cgroups():
        with contextlib.suppress(OSError, ValueError, IndexError):  # no such file, or "max"
            limit, used = int((group / "memory.max").read_text()), int((group / "memory.current").read_text())
            lines = (group / "memory.stat").read_text().splitlines()
            cached = sum(int(line.split()[1]) for line in lines if line.startswith(("inactive_file ", "active_file ")))
            free = min(free, limit - used + cached)
    return max(0, free) / GIB


def oom_kills() -> int | None:
    """How often the kernel killed a process of this cgroup for memory, or None where that is not counted."""
    for group in _cgroups():
        with contextlib.suppress(OSError):
            lines = (group / "memory.events").read_text().splitlines()
            return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
    return None
