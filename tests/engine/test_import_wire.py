"""Event files that are damaged, cut or hostile: read as far as they are sound, never an error of ours, never without end."""

import struct
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.imports import wire


def record(data: bytes) -> bytes:
    """A record as TensorBoard writes it; its reader checks both sums (see test_import_runs)."""
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", wire.masked_crc(head)) + data + struct.pack("<I", wire.masked_crc(data))


def scalar(step: int, value: float, tag: bytes = b"train/loss") -> bytes:
    inner = b"\x0a" + bytes([len(tag)]) + tag + b"\x15" + struct.pack("<f", value)
    summary = b"\x0a" + bytes([len(inner)]) + inner
    return b"\x09" + struct.pack("<d", 1.5e9) + b"\x10" + bytes([step]) + b"\x2a" + bytes([len(summary)]) + summary


def test_the_checksum_is_crc32c() -> None:
    known = 0xE3069283  # of the nine digits, as every description of CRC-32C gives it
    assert wire.masked_crc(b"123456789") == ((known >> 15 | known << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_tensorboard_takes_our_records(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    file = tmp_path / "events.out.tfevents.1.a"
    file.write_bytes(b"".join(record(scalar(step, step / 4)) for step in range(5)))
    events = list(LegacyEventFileLoader(str(file)).Load())
    assert [(e.step, e.summary.value[0].simple_value) for e in events] == [(step, step / 4) for step in range(5)]
    ours = [wire.decode(data) for data in wire.Records(file)]
    assert [(e.step, e.scalars) for e in ours] == [(step, [("train/loss", step / 4)]) for step in range(5)]


def test_a_step_below_zero() -> None:
    minus = b"\x10" + b"\xff" * 9 + b"\x01"
    assert wire.decode(minus).step == -1


def test_a_record_that_is_cut_is_not_read(tmp_path: Path) -> None:
    whole = record(scalar(1, 1.0)) + record(scalar(2, 2.0))
    first = len(record(scalar(1, 1.0)))
    file = tmp_path / "e"
    for end in range(first, len(whole)):
        file.write_bytes(whole[:end])
        records = wire.Records(file)
        assert len(list(records)) == 1
        assert (records.cut, records.damaged, records.lost_at) == (end > first, 0, None)


def test_what_is_too_large_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "e"
    graph = record(b"\x22\x64" + b"\0" * 100)
    with file.open("wb") as out:
        head = struct.pack("<Q", wire.LARGEST + 1)
        out.write(head + struct.pack("<I", wire.masked_crc(head)))
        out.seek(wire.LARGEST + 5, 1)  # a hole: it costs no disk
        out.write(record(scalar(3, 3.0)) + graph)
    records = wire.Records(file)
    assert [wire.decode(data).step for data in records] == [3, 0]
    assert records.large == 1


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_value_error(data: bytes) -> None:
    try:
        event = wire.decode(data)
    except ValueError:
        return
    assert isinstance(event.step, int)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 40), st.integers(0, 255))
def test_a_message_with_a_wrong_byte_is_a_message_or_a_value_error(place: int, byte: int) -> None:
    data = bytearray(scalar(7, 7.0))
    data[place % len(data)] = byte
    try:
        wire.decode(bytes(data))
    except ValueError:
        return


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=60), st.just(record(scalar(1, 1.0)))), max_size=6))
def test_any_file_ends(tmp_path_factory: object, parts: list[bytes]) -> None:
    file = Path(tmp_path_factory.getbasetemp()) / "any"  # type: ignore[attr-defined]
    file.write_bytes(b"".join(parts))
    records = wire.Records(file)
    sound = list(records)
    assert len(sound) <= len(file.read_bytes()) // 16
