"""NVML without a driver: the queries of `engine.hardware`, answered from a table of values per card.

The exceptions are pynvml's own. What a card's table lacks is answered as NVML does: not supported.
"""

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

MIB = 1024**2


def memory(total: int, used: int) -> SimpleNamespace:
    """NVML's memory structure, from MiB."""
    return SimpleNamespace(total=total * MIB, used=used * MIB, free=(total - used) * MIB)


def process(pid: int, used: int | None) -> SimpleNamespace:
    """A process as NVML lists it, with MiB or with a figure that the driver does not tell."""
    return SimpleNamespace(pid=pid, usedGpuMemory=None if used is None else used * MIB)


@dataclass
class Card:
    """A handle: answers by query (a function of what else is asked, or the value itself); `slices` are its MIG devices by
    position, None where there is none."""

    answers: dict[str, Any] = field(default_factory=dict)
    slices: "list[Card | None]" = field(default_factory=list)
    lost: bool = False


RTX_4090 = Card(
    {
        "UUID": "GPU-5c3d8f2a-1b7e-4d09-9a6f-0e2b4c6d8f10",
        "Name": "NVIDIA GeForce RTX 4090",
        "MemoryInfo": memory(24564, 19763),
        "CudaComputeCapability": (8, 9),
        "UtilizationRates": SimpleNamespace(gpu=98, memory=61),
        "PowerUsage": 402_310,
        "Temperature": 71,
    }
)
# An older binding answers in bytes; a card in MIG mode has no utilization of its own
A100_MIG = Card(
    {
        "UUID": b"GPU-a1b2c3d4-0000-1111-2222-333344445555",
        "Name": b"NVIDIA A100-SXM4-80GB",
        "MigMode": (1, 1),
        "MaxMigDeviceCount": 7,
        "MemoryInfo": memory(81920, 87),
        "CudaComputeCapability": (8, 0),
        "PowerUsage": 61_004,
        "Temperature": 33,
    },
    [
        Card({"UUID": b"MIG-11111111-aaaa", "Name": b"NVIDIA A100-SXM4-80GB MIG 3g.40gb", "MemoryInfo": memory(40192, 37),
              "CudaComputeCapability": (8, 0)}),
        None,
        Card({"UUID": b"MIG-22222222-bbbb", "Name": b"NVIDIA A100-SXM4-80GB MIG 3g.40gb", "MemoryInfo": memory(40192, 37)}),
    ],
)  # fmt: skip
NO_POWER = Card(
    {k: v for k, v in RTX_4090.answers.items() if k != "PowerUsage"} | {"UUID": "GPU-quiet", "MigMode": (0, 0)}
)
LOST = Card(lost=True)


class FakeNvml:
    """What `engine.hardware` takes for the module pynvml."""

    NVMLError = pynvml.NVMLError
    NVMLError_LibraryNotFound = pynvml.NVMLError_LibraryNotFound
    NVMLError_DriverNotLoaded = pynvml.NVMLError_DriverNotLoaded
    NVMLError_LibRmVersionMismatch = pynvml.NVMLError_LibRmVersionMismatch

    def __init__(self, *cards: Card, driver: str | bytes = "570.86.15", refuses: int | None = None) -> None:
        self.cards, self.driver, self.refuses = cards, driver, refuses
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        if self.refuses is not None:
            raise pynvml.NVMLError(self.refuses)
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str | bytes:  # noqa: N802
        return self.driver

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:  # noqa: N802
        if self.cards[index].lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return self.cards[index]

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> Card:  # noqa: N802
        if index >= len(card.slices) or card.slices[index] is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return card.slices[index]  # type: ignore[return-value]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvmlDeviceGet"):
            raise AttributeError(name)
        return functools.partial(self._answer, name.removeprefix("nvmlDeviceGet"))

    def _answer(self, query: str, card: Card, *more: Any) -> Any:
        if card.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        if query not in card.answers:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        answer = card.answers[query]
        return answer(*more) if callable(answer) else answer


class FileNvml(FakeNvml):
    """Cards of a JSON file, read again for each answer: {uuid: {"total": MiB, "used": MiB, "processes": [[pid, MiB], ...]}}.

    A card that is no longer there was lost.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(*self._now().values())

    def _now(self) -> dict[str, Card]:
        found = json.loads(self.path.read_text())
        return {uuid: Card({"UUID": uuid, "Name": "NVIDIA GeForce RTX 4090", "MemoryInfo": memory(c["total"], c["used"]),
                            "ComputeRunningProcesses": [process(*p) for p in c.get("processes", [])]})
                for uuid, c in found.items()}  # fmt: skip

    def _answer(self, query: str, card: Card, *more: Any) -> Any:
        return super()._answer(query, self._now().get(card.answers["UUID"], LOST), *more)
