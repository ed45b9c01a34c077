"""What the data page asks for, whoever answers."""

from typing import Protocol

from tuiapp.data_snapshot import Browsed, DataCounts, DataPage, RowsSeen
from tuiapp.snapshot import NewRun


class DataServices(Protocol):
    """What the page asks for. All but `count` may block."""

    def look(self, form: NewRun) -> DataPage:
        """The form's data, with its model if it names one."""

    def count(self, page: DataPage, max_length: int | None, long_rows: str) -> DataCounts:
        """What a length makes of it, at once."""

    def see(self, page: DataPage, max_length: int | None, long_rows: str, first: int) -> RowsSeen:
        """A few rows from the `first` on (0), as the trainer makes them: some seconds."""

    def models(self) -> list[str]:
        """Models known here."""

    def browse(self, text: str) -> Browsed:
        """Files and directories that go on from a text, and the beginning of the file that it names."""

    def complete_path(self, text: str) -> list[str]:
        """Paths that begin so."""
