"""Runs in Python: `tunedeck.open().runs("status:finished")`. Reads only. See docs/python.md."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from engine import paths
from engine.errors import TuneDeckError as TuneDeckError
from engine.store import metrics, query, reports, runs
from engine.store.connection import open_database

__all__ = ["Database", "Rows", "TuneDeckError", "open"]
Row = dict[str, Any]
MEASURED = ("best_eval", "last_eval", "last_loss", "smoothed_loss", "tokens_per_second", "peak_gib")


class Rows(Sequence[Row]):
    """A list of dictionaries, which `frame()` makes a pandas data frame of."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = list(rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __repr__(self) -> str:
        return repr(self._rows)

    def frame(self) -> Any:
        """The rows as a pandas.DataFrame. Raises ImportError without pandas."""
        import pandas

        return pandas.DataFrame(self._rows)


class Database(AbstractContextManager["Database"]):
    """An experiments.db, open for reading. Use it in a `with`, or close it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = open_database(path, create=False)
        self._db.execute("PRAGMA query_only = ON")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def runs(
        self, filter: str = "", order: str = "-created", fields: Sequence[str] = (), archived: bool = False  # noqa: A002
    ) -> Rows:  # fmt: skip
        """The runs that a filter lets through, in order, as the view run_overview has them, with more fields by name.

        Filter, order and fields as in `tunedeck runs`: "status:finished lr<1e-3", "eval_loss.best", ["grad_norm.max"].
        """
        ids = query.select(self._db, filter, order, archived)
        more = query.values(self._db, fields, ids) if fields else {}
        rows = [
            row | dict(zip(fields, more.get(row["id"], ()), strict=False)) for row in reports.overview(self._db, ids)
        ]
        return Rows([{key: _number(key, value) for key, value in row.items()} for row in rows])

    def run(self, name: str) -> Row:
        """Everything in a run's row, by id, unique prefix of one, or name: `spec`, `plan` and `environment` as dictionaries."""
        return runs.one(self._db, name)

    def params(self, name: str) -> dict[str, str | None]:
        """A run's settings by path, flattened: `{"method.rank": "16", ...}`."""
        return dict(runs.params(self._db, runs.find(self._db, name)["id"]))

    def metrics(self, name: str | Sequence[str], keys: Sequence[str] | None = None) -> Rows:
        """Every point of a run, or of several: run_id, key, step, time (unix seconds), value; NaN and infinity are floats."""
        found = []
        for one in [name] if isinstance(name, str) else name:
            run_id = runs.find(self._db, one)["id"]
            wanted = metrics.keys(self._db, run_id) if keys is None else keys
            for key, points in metrics.curves(self._db, run_id, wanted).items():
                found += [{"run_id": run_id, "key": key, "step": s, "time": t, "value": v} for s, t, v in points]
        return Rows(found)


def open(path: str | os.PathLike[str] | None = None) -> Database:  # noqa: A001
    """The database at a path; without one that which `tunedeck` would open. Raises TuneDeckError."""
    return Database(paths.database(None if path is None else Path(path)))


def _number(key: str, value: Any) -> Any:
    """Of measures, what is not finite stands as a text in the database."""
    return float(value) if key in MEASURED and isinstance(value, str) else value
