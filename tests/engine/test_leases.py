"""One run per card."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.hardware import Gpu
from engine.leases import try_lease

A, B = Gpu(0, "GPU-aa", "A", 24.0), Gpu(1, "MIG-bb/1/0", "B", 24.0)
HOLDER = """
import sys
from engine.hardware import Gpu
from engine.leases import try_lease
leased = try_lease([Gpu(0, sys.argv[1], "x", 24.0)], 1)
print("held" if leased else "refused", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


@pytest.fixture
def held() -> Iterator[list[int]]:
    """Descriptors to close in the end."""
    fds: list[int] = []
    yield fds
    for fd in fds:
        os.close(fd)


def lease(held: list[int], cards: list[Gpu], count: int) -> list[str] | None:
    got = try_lease(cards, count)
    if got is None:
        return None
    held += got[1]
    return [gpu.uuid for gpu in got[0]]


def free(cards: list[Gpu], count: int) -> bool:
    """Whether somebody else could have so many of them now."""
    fds: list[int] = []
    got = lease(fds, cards, count)
    for fd in fds:
        os.close(fd)
    return got is not None


def test_the_first_free_cards_are_taken(held: list[int]) -> None:
    assert lease(held, [A, B], 1) == ["GPU-aa"]
    assert lease(held, [A, B], 1) == ["MIG-bb/1/0"]
    assert lease(held, [A, B], 1) is None


def test_who_gets_too_few_holds_none(held: list[int]) -> None:
    lease(held, [B], 1)
    assert try_lease([A, B], 2) is None
    assert free([A], 1)


def test_closing_frees(held: list[int]) -> None:
    lease(held, [A], 1)
    assert not free([A], 1)
    os.close(held.pop())
    assert free([A], 1)


def test_two_processes_cannot_hold_the_same_card() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, A.uuid],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        assert not free([A], 1)
        assert free([A, B], 1)
        process.kill()  # however its holder ends, the card is free
        process.wait()
        assert free([A], 1)
    finally:
        process.kill()
        process.communicate()


def test_a_child_does_not_inherit_the_lock(held: list[int]) -> None:
    lease(held, [A], 1)
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
        assert child.stdout is not None
        child.stdout.readline()  # it is up: descriptors are closed a moment after Popen returns
        os.close(held.pop())
        assert free([A], 1)
        child.communicate(b"\n")


def test_the_files_lie_where_everybody_finds_them(locks: Path, held: list[int]) -> None:
    lease(held, [A, B], 2)
    assert sorted(path.name for path in locks.iterdir()) == ["gpu-GPU-aa", "gpu-MIG-bb_1_0"]
    assert locks.stat().st_mode & 0o7777 == 0o1777


def test_the_locks_are_for_all_users_whatever_the_umask(locks: Path, held: list[int]) -> None:
    before = os.umask(0o077)
    try:
        lease(held, [A], 1)
    finally:
        os.umask(before)
    assert (locks / "gpu-GPU-aa").stat().st_mode & 0o444 == 0o444
