"""Rows that say the same: exactly, up to case and white space, or nearly, by MinHash over shingles of words."""

import hashlib
from typing import Any

EXACT_ROWS, NEAR_ROWS = 2_000_000, 100_000
"""Rows that are compared with each other: 150 MB and 100 MB. Later ones are compared with these only."""
SIMILARITY = 0.8
"""Share of word triples in common from which two rows count as nearly the same (the threshold of RefinedWeb, Penedo et al.
2023, arXiv:2306.01116, and of the MinHash examples of text-dedup lies at 0.7 to 0.85)."""
PERMUTATIONS, BANDS = 128, 16
SHORTEST = 12
"""Words under which rows are only compared exactly: short answers look alike without being copies."""
LONGEST = 1_000_000
"""Characters of a row that are compared: the triples of 20 MB would take 600 MB."""


def fingerprint(text: str) -> int:
    """64 bits that are equal for texts that differ in case and white space only."""
    plain = " ".join(text.casefold().split())
    return int.from_bytes(hashlib.blake2b(plain.encode("utf-8", "replace"), digest_size=8).digest(), "big")


class Exact:
    """Remembers the rows that it is shown, by the line of the first."""

    def __init__(self) -> None:
        self._lines: dict[int, int] = {}

    def earlier(self, mark: int, line: int) -> int | None:
        """The line of an earlier row with this fingerprint, None if there is none; remembers the row."""
        found = self._lines.get(mark)
        if found is None and len(self._lines) < EXACT_ROWS:
            self._lines[mark] = line
        return found

    def knows(self, mark: int) -> bool:
        return mark in self._lines


class Near:
    """Remembers the rows that it is shown, by their MinHash (the library rensa)."""

    def __init__(self) -> None:
        from rensa import RMinHash, RMinHashLSH

        self._hash = RMinHash
        self._index = RMinHashLSH(threshold=SIMILARITY, num_perm=PERMUTATIONS, num_bands=BANDS)
        self._known: list[Any] = []
        self._lines: list[int] = []

    def earlier(self, text: str, line: int, remember: bool = True) -> int | None:
        """The line of an earlier row that is nearly the same; remembers the row unless there is one, or not `remember`."""
        words = text[:LONGEST].lower().split()
        if len(words) < SHORTEST:
            return None
        sketch = self._hash(num_perm=PERMUTATIONS, seed=42)
        sketch.update(list(map(" ".join, zip(words, words[1:], words[2:], strict=False))))
        candidates: list[int] = sorted(self._index.query(sketch))
        for candidate in candidates:
            if sketch.jaccard(self._known[candidate]) >= SIMILARITY:
                return self._lines[candidate]
        if remember and len(self._known) < NEAR_ROWS:
            self._index.insert(len(self._known), sketch)
            self._known.append(sketch)
            self._lines.append(line)
        return None
