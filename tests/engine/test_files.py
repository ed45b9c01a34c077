"""Event files that outlive their writers, and private files."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from engine.events import Notice, Phase, Unknown, decode
from engine.files import EventFile, complete_lines, read_records, write_private


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def seqs(path: Path) -> list[int]:
    return [r.seq for r in read_records(path)]


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """Files of this process may not grow beyond so many bytes: a write is cut short there, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def written(path: Path, count: int = 3, attempt: int = 1) -> EventFile:
    file = EventFile(path, attempt)
    for i in range(count):
        file.append(Phase(f"p{i}"))
    return file


def test_each_record_is_in_the_file_at_once(path: Path) -> None:
    file = EventFile(path, attempt=4)
    record = file.append(Phase("load", "x"))
    assert (record.seq, record.attempt) == (1, 4)
    assert list(read_records(path)) == [record]
    file.close()


def test_numbering_goes_on_where_it_was(path: Path) -> None:
    written(path).close()
    assert written(path, 1, attempt=2).append(Phase("y")).seq == 5
    assert seqs(path) == [1, 2, 3, 4, 5]
    assert [r.attempt for r in read_records(path)] == [1, 1, 1, 2, 2]


def test_a_file_is_private(path: Path) -> None:
    before = os.umask(0)
    try:
        written(path).close()
        write_private(path.with_name("spec.yaml"), "a: 1\n")
    finally:
        os.umask(before)
    assert mode(path) == mode(path.with_name("spec.yaml")) == 0o600


def test_a_half_line_is_closed_and_passed_over(path: Path) -> None:
    written(path).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    EventFile(path).append(Phase("after"))
    lines = path.read_bytes().split(b"\n")
    assert len(lines) == 5
    assert seqs(path) == [1, 2, 3]
    assert decode(lines[3]).event == Phase("after")


def cut_anywhere(path: Path) -> Iterator[int]:
    """The file with its last line cut after each of its bytes, appended to by the next writer."""
    written(path).close()
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in range(start, len(whole) + 1):
        path.write_bytes(whole[:end])
        EventFile(path).append(Unknown("next", {}))
        yield end - len(whole)


def test_wherever_a_writer_was_killed_the_next_record_is_whole(path: Path) -> None:
    for missing in cut_anywhere(path):
        assert list(read_records(path))[-1].event.type == "next", missing


def test_wherever_a_writer_was_killed_no_number_comes_twice(path: Path) -> None:
    for missing in cut_anywhere(path):
        assert len(set(seqs(path))) == len(seqs(path)), missing


def test_a_write_cut_short_by_a_full_disk_costs_that_record_only(path: Path) -> None:
    file = written(path)
    with no_room_beyond(path.stat().st_size + 30), suppress(OSError):  # said so: as good
        file.append(Notice("note", "x" * 100))
    file.append(Phase("room again"))
    assert [r.event for r in read_records(path)][3:] == [Phase("room again")]


def test_a_lone_surrogate_can_be_written(path: Path) -> None:
    EventFile(path).append(Notice("note", "half a pair: \ud83c"))
    assert len(list(read_records(path))) == 1


def test_complete_lines_leave_the_half_line(path: Path) -> None:
    path.write_bytes(b"one\ntwo\nthr")
    assert complete_lines(path) == ([b"one", b"two"], 8)
    assert complete_lines(path, 8) == ([], 8)
    path.write_bytes(b"one\ntwo\nthree\n")
    assert complete_lines(path, 8) == ([b"three"], 14)


def test_complete_lines_in_portions(path: Path) -> None:
    path.write_bytes(b"".join(b"%d\n" % i for i in range(100)))
    got, offset = [], 0
    while True:
        lines, end = complete_lines(path, offset, limit=16)
        if end == offset:
            break
        got, offset = got + lines, end
    assert got == [b"%d" % i for i in range(100)]


def test_a_line_longer_than_a_portion_is_read_whole(path: Path) -> None:
    path.write_bytes(b"x" * 50 + b"\nshort\n")
    assert complete_lines(path, 0, limit=16)[0][0] == b"x" * 50


def test_no_file_is_no_lines(path: Path) -> None:
    assert complete_lines(path) == ([], 0)
    assert list(read_records(path)) == []


def test_garbage_lines_are_passed_over(path: Path) -> None:
    written(path, 1).close()
    with path.open("ab") as file:
        file.write(b"\n\x00\x00\n{}\n{half\n")
    written(path, 1).close()
    assert seqs(path) == [1, 2]


def test_a_private_file_changes_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("old")
    path.chmod(0o644)
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "new " * 10_000 + "\ud83c")
    assert path.read_text() == "old"
    write_private(path, "new")
    assert path.read_text() == "new"
    assert mode(path) == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["spec.yaml"]
