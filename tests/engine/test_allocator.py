"""The model of the CUDA caching allocator: the rules of CUDACachingAllocator.cpp on sequences worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.worker.allocator import SMALL_SEGMENT, Usage, replay, rounded

KIB, MIB = 1 << 10, 1 << 20
Events = list[tuple[int, int]]


@pytest.mark.parametrize(("nbytes", "size"), [(1, 512), (512, 512), (513, 1024), (MIB + 1, MIB + 512)])
def test_blocks_are_multiples_of_512_bytes(nbytes: int, size: int) -> None:
    assert rounded(nbytes) == size


@pytest.mark.parametrize(
    ("sizes", "reserved"),
    [
        ([1], 2 * MIB),  # the small pool's segment
        ([MIB, MIB], 2 * MIB),  # two of them fill it
        ([MIB + 1], 20 * MIB),
        ([9 * MIB, 9 * MIB, 2 * MIB], 20 * MIB),
        ([9 * MIB, 9 * MIB, 3 * MIB], 40 * MIB),
        ([10 * MIB], 10 * MIB),  # a segment of its own
        ([10 * MIB + 1], 12 * MIB),  # rounded up to 2 MiB
        ([1, 100 * MIB], 102 * MIB),
    ],
)
def test_segments(sizes: list[int], reserved: int) -> None:
    assert replay([(i, 1) for i in range(len(sizes))], sizes).reserved == reserved


def test_what_is_too_small_to_split_counts_as_allocated() -> None:
    # 11.5 MiB has a segment of 12; what is left over is less than 1 MiB, so the block keeps it
    assert replay([(0, 1)], [11 * MIB + 512 * KIB]) == Usage(allocated=12 * MIB, reserved=12 * MIB)
    # 1.5 MiB of 12 is split off, 1 MiB is not: more than 1 MiB must be left
    assert replay([(0, 1)], [10 * MIB + 512 * KIB]).allocated == 10 * MIB + 512 * KIB
    assert replay([(0, 1), (0, -1), (1, 1)], [12 * MIB, 11 * MIB]) == Usage(allocated=12 * MIB, reserved=12 * MIB)
    assert replay([(0, 1)], [11 * MIB + 512 * KIB], expandable=True).allocated == 11 * MIB + 512 * KIB


def test_the_smallest_free_block_that_fits_is_taken() -> None:
    sizes = [40 * MIB, 20 * MIB, 18 * MIB, 39 * MIB]
    freed: Events = [(0, 1), (1, 1), (0, -1), (1, -1)]
    # 18 goes into the 20, so that 39 still finds the 40
    assert replay([*freed, (2, 1), (3, 1)], sizes).reserved == 60 * MIB


def test_free_neighbours_are_joined_and_others_are_not() -> None:
    sizes = [6 * MIB, 6 * MIB, 8 * MIB, 12 * MIB]
    three: Events = [(0, 1), (1, 1), (2, 1)]  # one segment of 20 MiB, in this order
    assert replay([*three, (0, -1), (1, -1), (3, 1)], sizes).reserved == 20 * MIB
    assert replay([*three, (1, -1), (0, -1), (3, 1)], sizes).reserved == 20 * MIB
    assert replay([*three, (0, -1), (2, -1), (3, 1)], sizes).reserved == 32 * MIB  # 6 and 8 are not neighbours


def test_an_expandable_segment_grows_by_what_is_missing() -> None:
    sizes = [50 * MIB, 30 * MIB, 70 * MIB]
    grown: Events = [(0, 1), (1, 1), (1, -1), (2, 1)]
    assert replay(grown, sizes).reserved == 150 * MIB  # 70 finds no room beside the 30 that are cached
    # 50 + 30 need 4 pages of 20 MiB; the 30 at the end are free, 40 more are mapped behind them
    assert replay(grown, sizes, expandable=True) == Usage(allocated=120 * MIB, reserved=120 * MIB)


def test_an_expandable_segment_keeps_its_end_for_what_fits_nowhere_else() -> None:
    # 20 free, 1 kept, and a free end of 19: 18 goes into the 20, since the end could grow
    sizes = [20 * MIB, 21 * MIB, 18 * MIB, 19 * MIB]
    events: Events = [(0, 1), (1, 1), (0, -1), (2, 1), (3, 1)]
    assert replay(events, sizes, expandable=True).reserved == 60 * MIB


@st.composite
def traces(draw: st.DrawFn) -> tuple[Events, list[int]]:
    """Allocations of all sizes, each freed at some later time."""
    sizes = draw(st.lists(st.integers(1, 64 * MIB) | st.integers(1, 2 * MIB), min_size=1, max_size=40))
    keys = draw(st.lists(st.integers(0, 60), min_size=len(sizes), max_size=len(sizes)))
    order = [(2 * i, i, 1) for i in range(len(sizes))] + [(2 * i + 1 + 2 * k, i, -1) for i, k in enumerate(keys)]
    return [(number, sign) for _, number, sign in sorted(order)], sizes


@given(traces(), st.booleans())
def test_what_is_reserved_holds_what_is_allocated(trace: tuple[Events, list[int]], expandable: bool) -> None:
    events, sizes = trace
    now = peak = 0
    for number, sign in events:
        now += sign * rounded(sizes[number])
        peak = max(peak, now)
    usage = replay(events, sizes, expandable)
    assert peak <= usage.allocated <= usage.reserved
    assert usage.reserved % SMALL_SEGMENT == 0
    if expandable:
        assert usage.allocated == peak  # every remainder is split off


@given(traces())
def test_a_second_time_takes_nothing_more(trace: tuple[Events, list[int]]) -> None:
    """All is freed at the end, so one block as large as the expandable segment is left."""
    events, sizes = trace
    again = [(number + len(sizes), sign) for number, sign in events]
    assert replay([*events, *again], sizes * 2, expandable=True) == replay(events, sizes, expandable=True)
