"""How much memory torch's CUDA caching allocator takes from the driver for a sequence of allocations and frees.

The rules and constants are those of c10/cuda/CUDACachingAllocator.cpp: sizes are multiples of 512 B; up to 1 MiB comes
from a pool of 2 MiB segments, the rest from a pool of 20 MiB segments or, from 10 MiB on, of segments of their own
rounded up to 2 MiB; the smallest free block that fits is taken and split if enough is left over; neighbours that are
free are joined; segments are kept. With expandable segments each pool is one segment that grows at its end.
"""

import bisect
from dataclasses import dataclass

MIN_BLOCK = 512
SMALL = 1 << 20  # the largest request of the small pool, and the least that is split off in the large one
SMALL_SEGMENT = 2 << 20
LARGE_SEGMENT = 20 << 20
OWN_SEGMENT = 10 << 20  # requests from here on have a segment of their own
ROUND_SEGMENT = 2 << 20


def rounded(nbytes: int) -> int:
    """The size of the block for a request of `nbytes` bytes."""
    return max(MIN_BLOCK, -(-nbytes // MIN_BLOCK) * MIN_BLOCK)


def segment_size(size: int) -> int:
    """What is asked of the driver when no free block holds `size` bytes."""
    if size <= SMALL:
        return SMALL_SEGMENT
    if size < OWN_SEGMENT:
        return LARGE_SEGMENT
    return -(-size // ROUND_SEGMENT) * ROUND_SEGMENT


@dataclass(eq=False)
class _Block:
    address: int
    size: int
    before: "_Block | None" = None
    after: "_Block | None" = None
    free: bool = False


class _Pool:
    """Free blocks by size and address; blocks of one segment are linked in the order of their addresses."""

    def __init__(self, small: bool, expandable: bool) -> None:
        self.small = small
        self.expandable = expandable
        self.reserved = 0
        self._keys: list[tuple[int, int]] = []
        self._blocks: dict[int, _Block] = {}
        self._last: _Block | None = None

    def take(self, size: int) -> _Block:
        i = bisect.bisect_left(self._keys, (size, 0))
        if i + 1 < len(self._keys) and self._blocks[self._keys[i][1]] is self._last:
            i += 1  # what can still grow counts as larger than any other
        if i < len(self._keys):
            block = self._remove(self._keys[i])
        else:
            block = self._grow(size) if self.expandable else self._segment(size)
        left = block.size - size
        if left >= MIN_BLOCK if self.small or self.expandable else left > SMALL:
            rest = _Block(block.address + size, left, before=block, after=block.after)
            if block.after:
                block.after.before = rest
            block.size, block.after = size, rest
            if block is self._last:
                self._last = rest
            self._insert(rest)
        block.free = False
        return block

    def give_back(self, block: _Block) -> None:
        for other in (block.before, block.after):
            if other and other.free:
                self._remove((other.size, other.address))
                block = self._join(*sorted((block, other), key=lambda b: b.address))
        self._insert(block)

    def _segment(self, size: int) -> _Block:
        return self._reserve(segment_size(size))

    def _grow(self, size: int) -> _Block:
        """Map pages at the end of the one segment, behind what is free there."""
        page = SMALL_SEGMENT if self.small else LARGE_SEGMENT
        tail = self._last if self._last and self._last.free else None
        new = self._reserve(-(-(size - (tail.size if tail else 0)) // page) * page)
        if self._last:
            self._last.after, new.before = new, self._last
        self._last = new
        if not tail:
            return new
        self._remove((tail.size, tail.address))
        return self._join(tail, new)

    def _reserve(self, size: int) -> _Block:
        block = _Block(self.reserved, size)
        self.reserved += size
        return block

    def _join(self, first: _Block, second: _Block) -> _Block:
        first.size += second.size
        first.after = second.after
        if second.after:
            second.after.before = first
        if second is self._last:
            self._last = first
        return first

    def _insert(self, block: _Block) -> None:
        block.free = True
        bisect.insort(self._keys, (block.size, block.address))
        self._blocks[block.address] = block

    def _remove(self, key: tuple[int, int]) -> _Block:
        del self._keys[bisect.bisect_left(self._keys, key)]
        block = self._blocks.pop(key[1])
        block.free = False
        return block


@dataclass(frozen=True)
class Usage:
    """Bytes. `allocated` counts what was left over and too small to split, as torch.cuda.max_memory_allocated does."""

    allocated: int
    reserved: int


def replay(events: list[tuple[int, int]], sizes: list[int], expandable: bool = False) -> Usage:
    """The peaks of a sequence of (number, +1 allocate or -1 free), where block `number` has `sizes[number]` bytes.

    Memory is never short here: on a full card the allocator gives cached segments back and tries again.
    """
    small, large = _Pool(True, expandable), _Pool(False, expandable)
    held: dict[int, tuple[_Pool, _Block]] = {}
    now = peak = 0
    for number, sign in events:
        if sign > 0:
            size = rounded(sizes[number])
            pool = small if size <= SMALL else large
            block = pool.take(size)
            held[number] = (pool, block)
            now += block.size
            peak = max(peak, now)
        else:
            pool, block = held.pop(number)
            now -= block.size
            pool.give_back(block)
    return Usage(peak, small.reserved + large.reserved)
