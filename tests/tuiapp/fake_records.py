"""Records of runs without a database: what is changed of the fake lines, and what a list asks for of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tuiapp.list_snapshot import Asked, FieldNames, Listing
from tuiapp.snapshot import RunLine

Lines = tuple[RunLine, ...]


def listing(asked: Asked, lines: Lines) -> Listing:
    """Words only: the language is the engine's."""
    words = asked.filter.casefold().split()
    if not words:
        return Listing(asked)
    ids = frozenset(one.id for one in lines if all(word in one.words for word in words))
    return Listing(asked, asked.filter, ids)


@dataclass
class FakeRecords:
    """Changes the lines that `get` and `put` reach."""

    get: Callable[[], Lines]
    put: Callable[[Lines], None]
    calls: list[tuple[object, ...]]
    names_here: FieldNames = field(default_factory=FieldNames)

    def _change(self, run_ids: Sequence[str], **values: object) -> None:
        self.put(tuple(replace(one, **values) if one.id in run_ids else one for one in self.get()))  # type: ignore[arg-type]

    def rename(self, run_id: str, name: str) -> str:
        self.calls.append(("rename", run_id, name))
        self._change([run_id], name=name)
        return ""

    def set_tags(self, tags: Mapping[str, Sequence[str]]) -> None:
        self.calls.append(("set_tags", {run_id: list(of_run) for run_id, of_run in tags.items()}))
        for run_id, of_run in tags.items():
            self._change([run_id], tags=tuple(of_run))

    def set_notes(self, notes: Mapping[str, str]) -> None:
        self.calls.append(("set_notes", dict(notes)))
        for run_id, note in notes.items():
            self._change([run_id], note=note)

    def star(self, run_ids: Sequence[str], on: bool) -> None:
        self.calls.append(("star", list(run_ids), on))
        self._change(run_ids, starred=on)

    def archive(self, run_ids: Sequence[str], on: bool) -> None:
        self.calls.append(("archive", list(run_ids), on))
        self._change(run_ids, archived=on)

    def bin(self, run_ids: Sequence[str]) -> list[str]:
        self.calls.append(("bin", list(run_ids)))
        self._change(run_ids, deleted_at=1.0)
        return list(run_ids)

    def unbin(self, run_ids: Sequence[str]) -> None:
        self.calls.append(("unbin", list(run_ids)))
        self._change(run_ids, deleted_at=None)

    def purge(self, run_ids: Sequence[str]) -> int:
        self.calls.append(("purge", list(run_ids)))
        self.put(tuple(one for one in self.get() if one.id not in run_ids))
        return 1

    def disk(self, run_ids: Sequence[str]) -> int:
        return len(run_ids) * 2**30

    def names(self, run_id: str | None) -> FieldNames:
        return self.names_here
