"""Processes by pid and start time, so that a reused pid fools nobody."""

import ctypes
import os
import signal
from pathlib import Path

import psutil

CLOCK_SET = 5.0
"""Seconds by which a start time may differ from the one that was noted: the kernel counts it from the machine's start, and tells
it by a clock that is set now and then. A pid does not come again so soon."""


def start_time(pid: int) -> float:
    """When the process started, unix seconds. Raises psutil.NoSuchProcess."""
    return float(psutil.Process(pid).create_time())


def alive(pid: int, started: float) -> bool:
    """Whether the process with this pid still is the one that started then; a zombie is dead."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < CLOCK_SET and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def still(process: psutil.Process) -> bool:
    """Whether a process that was there has not ended, wherever the clock was set meanwhile."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def settle(lock: int) -> None:
    """What a process does first that looks after a directory and has inherited its lock."""
    os.set_inheritable(lock, False)  # ours alone: a worker must not keep the lock
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)  # for people who look for the process
    os.umask(0o077)  # what a run writes is its owner's alone, the worker's files too
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def find_worker(run_dir: Path, module: str = "engine.worker") -> psutil.Process | None:
    """A worker (or its torchrun agent) of this run, or what does a job, that runs now, found by its command line.

    For the moment between a worker's start and the line that records it, and for a clock that was set far: the oldest such
    process is returned.
    """
    found = []
    for process in psutil.process_iter(["cmdline", "create_time", "status"]):
        command = process.info["cmdline"] or []
        if module in command and str(run_dir) in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append((process.info["create_time"], process.pid, process))
    return min(found)[2] if found else None


def kill_tree(process: psutil.Process) -> None:
    """Kill a process and its descendants, if it still is the one that it was."""
    if not still(process):
        return
    for victim in [process, *process.children(recursive=True)]:
        try:
            victim.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue


def die_with_parent() -> None:
    """The ranks of a torchrun agent die with it: the kernel kills this process when its parent ends (Linux)."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
