"""Two real steps on a card in a child process, to see instead of to estimate; torch stays out of this process."""

import os
from collections.abc import Sequence
from typing import Any

from engine.errors import RunError, SpecError
from engine.hardware import Gpu
from engine.leases import try_lease
from engine.outcome import usable, worker_environment
from engine.planner.exact import in_child
from engine.spec import RunSpec


def probe(config: dict[str, Any], spec: RunSpec, gpu: Gpu | None) -> dict[str, Any]:
    """What engine.worker.probe.Probe holds, in bytes and seconds, as a dictionary. Takes about 20 s and the loading.

    `config` is the content of a config.json, `spec` has to be complete; `gpu` None is the CPU, for tiny models. The card's
    lease is held meanwhile, as by a run. Raises RunError if a run has it, TuneDeckError where the step cannot be built.
    """
    lease = try_lease([gpu], 1) if gpu else None
    if gpu and lease is None:
        raise RunError("The card is busy", f"A run holds {gpu.name}.", "Probe when it has ended: tunedeck runs")
    try:
        environment = worker_environment([gpu] if gpu else []) | {"HF_HUB_OFFLINE": "1"}
        return in_child("engine.worker.probe", config, spec, [], environment, "The probe")
    finally:
        for descriptor in lease[1] if lease else ():
            os.close(descriptor)


def card_for(spec: RunSpec, gpus: Sequence[Gpu]) -> Gpu | None:
    """The first card that the specification may use; None if it wants the CPU. Raises SpecError if there is none."""
    if spec.compute.devices == "cpu":
        return None
    found = usable(spec, gpus)
    if not found:
        raise SpecError(
            "There is no GPU to probe", "A probe runs two real steps.", "--exact traces them without a GPU."
        )
    return found[0]
