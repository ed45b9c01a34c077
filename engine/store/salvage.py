"""What a database still has: by SQL where it is sound, page by page where it is not."""

import contextlib
import itertools
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import StoreError
from engine.store.connection import explained, is_damaged
from engine.store.migrations import MIGRATIONS, VERSION
from engine.store.pages import INDEX_INTERIOR, INDEX_LEAF, TABLE_LEAF, Pages, Tree, count_on, free_pages, values

NOT_KEPT = re.compile("sqlite_|_sqlite_|search(?!_texts)")
"""Tables that are made anew."""
LOOKED_AT = 8
"""Rows of a page to which nothing leads that tell whose it is."""
_TYPES: dict[str, tuple[type, ...]] = {"TEXT": (str,), "INTEGER": (int,), "REAL": (int, float)}


@dataclass(frozen=True)
class Shape:
    """A table. `stored` are the places of its columns in the order in which a row's values lie in the file."""

    name: str
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    defaults: tuple[Any, ...]
    key: tuple[int, ...]
    needed: tuple[int, ...]
    """The columns that no row leaves open."""
    rowid: bool
    alias: int | None
    """The column that is the rowid, and is not stored among the values."""
    stored: tuple[int, ...]
    least: int = 0
    """Columns that it has had from the beginning."""

    def row(self, rowid: int | None, found: tuple[Any, ...], whole: bool = True) -> tuple[Any, ...] | None:
        """Stored values as a row in the order of the columns, None if they cannot be one. What was added later is as it is
        where nothing else was said. Without `whole` only the key has to be there."""
        if not self.least <= len(found) <= len(self.columns) or (rowid is not None) != self.rowid:
            return None
        row = list(self.defaults)
        for place, value in zip(self.stored, found, strict=False):
            kinds = _TYPES.get(self.kinds[place])
            if kinds and value is not None and not isinstance(value, kinds):
                return None
            row[place] = value
        if self.alias is not None:
            row[self.alias] = rowid
        return None if any(row[place] is None for place in (self.needed if whole else self.key)) else tuple(row)


def shapes(db: sqlite3.Connection) -> dict[str, Shape]:
    """The tables of a database that are worth keeping."""
    tables = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    return {name: _shape(db, name, sql) for name, sql in tables if not NOT_KEPT.match(name)}


def known_shapes(version: int) -> dict[str, Shape]:
    """The tables of a schema version. What a damaged file says of its own tables is not asked."""
    known, least = dict[str, Shape](), dict[str, int]()
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        for _, function in MIGRATIONS[:version]:
            function(db)
            known = shapes(db)
            least = {name: len(shape.columns) for name, shape in known.items()} | least
    return {name: replace(shape, least=least[name]) for name, shape in known.items()}


def _shape(db: sqlite3.Connection, name: str, sql: str) -> Shape:
    info = db.execute(f"PRAGMA table_info({name})").fetchall()  # cid, name, type, notnull, default, place in the key
    key = tuple(row[0] for row in sorted((row for row in info if row[5]), key=lambda row: row[5]))
    rowid = "WITHOUT ROWID" not in sql
    alias = key[0] if rowid and len(key) == 1 and info[key[0]][2] == "INTEGER" else None
    stored = range(len(info)) if rowid else [*key, *(row[0] for row in info if row[0] not in key)]
    defaults = tuple(db.execute(f"SELECT {row[4] or 'NULL'}").fetchone()[0] for row in info)
    needed = tuple(row[0] for row in info if row[3] or row[5])
    return Shape(name, tuple(row[1] for row in info), tuple(row[2] for row in info), defaults, key, needed, rowid, alias,
                 tuple(stored))  # fmt: skip


class Sound:
    """A database that SQLite reads."""

    def __init__(self, db: sqlite3.Connection, version: int) -> None:
        self._db, self.version, self.broken = db, version, dict[str, int]()
        db.text_factory = lambda text: text.decode(errors="replace")
        self.shapes = shapes(db)
        self.problem = ""

    def rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        """In the order of the columns."""
        shape = self.shapes[table]
        return iter(self._db.execute(f"SELECT {', '.join(shape.columns)} FROM {table}"))

    def count(self, table: str) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def close(self) -> None:
        self._db.close()


class Broken:
    """A damaged database. `broken` is how many pages of a table could not be read."""

    def __init__(self, path: Path, problem: str) -> None:
        self._pages = Pages(path)
        self.problem = problem
        head = self._pages.page(1)
        version = int.from_bytes(head[60:64], "big") if head and self._pages.whole_header else 0
        self.version = version if 1 <= version <= VERSION else VERSION
        self.shapes = known_shapes(self.version)
        self.broken: dict[str, int] = {}
        self._of: dict[str, list[int]] = {name: [] for name in self.shapes}
        self._lost: dict[str, list[int]] = {name: [] for name in self.shapes}
        self._survey(self._roots())

    def close(self) -> None:
        self._pages.close()

    def _survey(self, roots: dict[str, int]) -> None:
        """Which pages are whose: by the trees, and where nothing points to a page any more, by what lies on it."""
        tree = Tree(self._pages)
        for _ in tree.pages_with_rows(1):
            pass
        for name, root in roots.items():
            before = tree.broken
            found = list(tree.pages_with_rows(root))
            if name in self.shapes:
                self._of[name] = found
                self.broken[name] = tree.broken - before
        free = free_pages(self._pages)
        for number in range(2, self._pages.count + 1):
            owner = None if number in tree.seen or number in free else self._whose(number)
            if owner:
                self._lost[owner].append(number)

    def _roots(self) -> dict[str, int]:
        """Root page of every table and index, by name."""
        tree, found = Tree(self._pages), {}
        for number in tree.pages_with_rows(1):
            for rowid, payload in tree.cells_on(number):
                with contextlib.suppress(ValueError):
                    row = values(payload)
                    if rowid is not None and len(row) == 5 and isinstance(row[1], str) and isinstance(row[3], int):
                        found[row[1]] = row[3]
        return {name: root for name, root in found.items() if root > 1}

    def _whose(self, number: int) -> str | None:
        """The table that most rows of a page can belong to."""
        kind = self._pages.page(number)[:1]
        if kind not in (bytes([TABLE_LEAF]), bytes([INDEX_LEAF]), bytes([INDEX_INTERIOR])):
            return None
        some = itertools.islice(Tree(self._pages, whole=False).cells_on(number), LOOKED_AT)
        found = [(rowid, row) for rowid, payload in some if (row := _values(payload)) is not None]
        fits = {name: sum(shape.row(*one) is not None for one in found) for name, shape in self.shapes.items()}
        name = max(fits, key=lambda one: fits[one])
        return name if fits[name] else None

    def _rows_on(self, number: int, shape: Shape) -> Iterator[tuple[Any, ...]]:
        whole = shape.name != "runs"  # what is left of a run's row is better than nothing: see mending.py
        for rowid, payload in Tree(self._pages, whole).cells_on(number):
            with contextlib.suppress(ValueError):
                row = shape.row(rowid, values(payload, whole), whole)
                if row is not None:
                    yield row

    def rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        """In the order of the columns; what the trees have first, a row that comes again on a lost page not twice."""
        for number in (*self._of[table], *self._lost[table]):
            yield from self._rows_on(number, self.shapes[table])

    def count(self, table: str) -> int:
        """How many rows its pages have, as they say it themselves; of runs, how many can be read."""
        numbers = (*self._of[table], *self._lost[table])
        if table == "runs":
            return len({row[0] for row in self.rows(table)})
        return sum(count_on(self._pages.page(number)) for number in numbers)


def _values(payload: bytes) -> tuple[Any, ...] | None:
    try:
        return values(payload)
    except ValueError:
        return None


Source = Sound | Broken


def source(path: Path, patience: float = 10.0) -> Source | None:
    """What there is to be had of a database file, whatever its state; None if it is missing or empty.

    Raises StoreError (another program's, a newer version's, in use in a way that lets nobody read), OSError.
    """
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        return _sound(path, patience)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not is_damaged(error) and "disk I/O" not in str(error):  # a file cut short in the middle of a page
            raise explained(path, error) from None
        return Broken(path, str(error))


def _sound(path: Path, patience: float) -> Sound:
    """Raises StoreError, sqlite3.DatabaseError."""
    db = sqlite3.connect(path, timeout=patience, isolation_level=None)
    try:
        db.execute("BEGIN")  # one moment of it, whoever writes meanwhile
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if version > VERSION:
            raise StoreError(
                "The database is from a newer version", f"{path} has schema {version}.", "Upgrade TuneDeck."
            )
        if tables and "_sqlite_migrations" not in tables:
            raise StoreError(
                "This is another program's database", f"{path} holds tables that are not TuneDeck's.", "Use --db."
            )
        if missing := set(known_shapes(version)) - tables:
            raise sqlite3.DatabaseError(f"malformed: there is no table {min(missing)}")
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"malformed: {found}")
    except BaseException:
        db.close()
        raise
    return Sound(db, version)
