"""Processes by pid and start time, so that a reused pid fools nobody."""

import ctypes
import os
import signal
from pathlib import Path

import psutil


def start_time(pid: int) -> float:
    """When the process started, unix seconds. Raises psutil.NoSuchProcess."""
    return float(psutil.Process(pid).create_time())


def alive(pid: int, started: float) -> bool:
    """Whether the process with this pid still is the one that started then; a zombie is dead."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def settle(lock: int) -> None:
    """What a process does first that looks after a directory and has inherited its lock."""
    os.set_inheritable(lock, False)  # ours alone: a worker must not keep the lock
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)  # for people who look for the process
    os.umask(0o077)  # what a run writes is its owner's alone, the worker's files too
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def find_worker(run_dir: Path) -> tuple[int, float] | None:
    """A worker (or its torchrun agent) of this run that runs now, found by its command line.

    For the moment between a worker's start and the line that records it: the oldest such process is returned.
    """
    found = []
    for process in psutil.process_iter(["cmdline", "create_time", "status"]):
        command = process.info["cmdline"] or []
        if "engine.worker" in command and str(run_dir) in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append((process.info["create_time"], process.pid))
    return (min(found)[1], min(found)[0]) if found else None


def kill_tree(pid: int, started: float) -> None:
    """Kill a process and its descendants, if it still is the one that started then."""
    if not alive(pid, started):
        return
    process = psutil.Process(pid)
    victims = [process, *process.children(recursive=True)]
    for victim in victims:
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
