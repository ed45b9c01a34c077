"""Runs by a filter and in an order, and the values of fields by run. See engine.filtering and engine.store.fields."""

import difflib
import json
import math
import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from engine import filtering
from engine.errors import RunError
from engine.filtering import Either, Every, Expression, FilterError, Not, Term, Word
from engine.store import fields, searching
from engine.store.fields import Field
from engine.store.runs import ACTIVE

Sql = tuple[str, tuple[Any, ...]]
STATES = {
    "starred": "starred", "archived": "archived", "deleted": "deleted_at IS NOT NULL",
    "active": f"status IN {ACTIVE}", "ended": f"status NOT IN {ACTIVE}", "imported": "source IS NOT NULL",
    "fork": "parent_id IS NOT NULL", "sweep": "sweep_id IS NOT NULL",
}  # fmt: skip
"""What `is:` may ask, beside every status."""
STATUSES = ("queued", "starting", "running", "stopping", "finished", "stopped", "failed", "crashed", "oom")
_SAID = (
    "name || char(10) || coalesce(model, '') || char(10) || coalesce(method, '') || char(10) || status || char(10)"
    " || coalesce(dataset, '') || char(10) || id || char(10) || note || char(10)"
    " || CASE tags WHEN '[]' THEN '' ELSE (SELECT group_concat(value, char(10)) FROM json_each(tags)) END"
)
"""What a bare word is looked for in."""
ASKED = {
    "is": (":", "=", "!="), "has": (":", "=", "!="), "text": (":", "=", "!=", "~", "!~"), "log": (":", "=", "!=", "~", "!~"),
}  # fmt: skip
"""Fields that are questions, and the operators that they take."""
PATIENCE = 0.2
"""Seconds that a search takes in logs from before there was this search: `searching.catch_up` takes in all."""
FLAGS = {"yes": 1, "true": 1, "1": 1, "no": 0, "false": 0, "0": 0}


def select(
    db: sqlite3.Connection, filter: str = "", order: str = "-created", archived: bool = False, deleted: bool | None = None  # noqa: A002
) -> list[str]:  # fmt: skip
    """The ids of the runs that a filter lets through, in order.

    `order` is a field, `-` before it for the greatest first; several with commas. What is not known comes last, equals
    newest first. Archived runs are left out without `archived` or `is:archived`. `deleted`: only runs that are in the bin,
    archived or not, or none of them; None: none, unless the filter says `is:deleted`.
    Raises FilterError, and RunError for an order by something unknown.
    """
    now, expression = time.time(), filtering.parse(filter)
    db.create_function("folded", 1, _folded, deterministic=True)
    if filtering.named(expression, "text") or filtering.named(expression, "log"):
        searching.catch_up(db, PATIENCE)
    where, arguments = _Compiler(db, filter, now).sql(expression) if expression else ("1", ())
    states = {(value or "").casefold() for term in filtering.named(expression, "is") for value in term.values}
    if deleted is not None:
        where = f"({where}) AND deleted_at IS {'NOT ' if deleted else ''}NULL"
    elif "deleted" not in states:
        where = f"({where}) AND deleted_at IS NULL"
    if not archived and not deleted and not states & {"archived", "deleted"}:
        where = f"({where}) AND NOT archived"
    by, more = _order(db, order, now)
    cursor = db.cursor()
    cursor.row_factory = None
    rows = cursor.execute(f"SELECT id FROM runs WHERE {where} ORDER BY {by}", (*arguments, *more))
    return [row[0] for row in rows]


def _folded(text: Any) -> str | None:
    return None if text is None else str(text).casefold()


def _order(db: sqlite3.Connection, order: str, now: float) -> Sql:
    parts: list[str] = []
    arguments: list[Any] = []
    for one in filter(None, (part.strip() for part in order.split(","))):
        field = fields.resolve(db, one.removeprefix("-"), now)
        way = "DESC" if one.startswith("-") else "ASC"
        if field.kind != "text" and field.kind != "texts":
            parts.append(f"{field.number} {way} NULLS LAST")
            arguments += field.arguments
        if field.kind in ("text", "texts", "either"):
            parts.append(f"folded(nullif(nullif({field.value}, ''), '[]')) {way} NULLS LAST")
            arguments += field.arguments
    return ", ".join([*parts, "created_at DESC", "id DESC"]), tuple(arguments)


class _Compiler:
    """Expressions into SQL conditions over `runs` that are true or false, never NULL: what is unknown is false."""

    def __init__(self, db: sqlite3.Connection, text: str, now: float) -> None:
        self._db, self._text, self._now = db, text, now

    def sql(self, expression: Expression) -> Sql:
        """The condition and its arguments. Raises FilterError."""
        match expression:
            case Word(text):
                return f"instr(folded({_SAID}), ?)", (text.casefold(),)
            case Term():
                return self._term(expression)
            case Not(part):
                sql, arguments = self.sql(part)
                return f"NOT ({sql})", arguments
            case Every(parts) | Either(parts):
                return _joined(" AND " if isinstance(expression, Every) else " OR ", [self.sql(part) for part in parts])

    def _term(self, term: Term) -> Sql:
        asked = ASKED.get(term.name.casefold())
        field = None if asked else self._field(term.name, term.column)
        found = [
            self._asked(term, i) if field is None else self._compared(field, term, i) for i in range(len(term.values))
        ]
        sql, arguments = _joined(" OR ", [(f"coalesce({one}, 0)", more) for one, more in found])
        if not term.operator.startswith("!"):
            return sql, arguments
        if field is None or None in term.values:
            return f"NOT ({sql})", arguments
        known, more = _there(field)  # of what is not known nobody can say that it is another
        return f"{known} AND NOT ({sql})", (*more, *arguments)

    def _field(self, name: str, column: int) -> Field:
        try:
            return fields.resolve(self._db, name, self._now)
        except RunError as error:
            hint = f"{error.hint} To look for the text itself, put it into quotes."
            raise FilterError(error.message, self._text, column, hint) from None

    def _asked(self, term: Term, i: int) -> Sql:
        """`is:`, `has:`, `text:` and `log:`."""
        name, value, column = term.name.casefold(), term.values[i], term.columns[i]
        value = filtering.NONE if value is None else value
        if term.operator not in ASKED[name]:
            self._fail(f"{name} takes no {term.operator}", term.column, f"Write {name}:{value}")
        if name == "has":
            return _there(self._field(value, column), empty=False)
        if name == "is":
            return self._is(value.casefold(), column)
        if not any(character.isalnum() for character in value):
            self._fail("There is no word to look for", column, 'For example: text:"out of memory"')
        where = " AND part = 'log'" if name == "log" else ""
        matching = f"SELECT run_id FROM search_texts WHERE id IN (SELECT rowid FROM search WHERE search MATCH ?){where}"
        return f"id IN ({matching})", (as_phrase(value),)

    def _is(self, value: str, column: int) -> Sql:
        if value in STATES:
            return STATES[value], ()
        return "status = ?", (self._status(value, column, STATES),)

    def _status(self, value: str, column: int, more: Iterable[str] = ()) -> str:
        if value.casefold() not in STATUSES:
            near = difflib.get_close_matches(value.casefold(), [*more, *STATUSES], 1, 0.5)
            hint = f"Did you mean {near[0]}? " if near else ""
            self._fail(f"A run is never '{value}'", column, f"{hint}There are {', '.join([*more, *STATUSES])}.")
        return value.casefold()

    def _compared(self, field: Field, term: Term, i: int) -> Sql:
        value, operator, column = term.values[i], term.operator.removeprefix("!"), term.columns[i]
        if value is None:
            sql, arguments = _there(field, empty=False)
            return f"NOT ({sql})", arguments
        if operator in ("<", "<=", ">", ">="):
            return self._less_or_more(field, operator, value, column)
        if operator != "~":
            return self._equal(field, value, column)
        if field.kind not in ("text", "texts", "either"):
            self._fail(f"{field.name} is no text", column, f"Compare {field.name} with :, < or >.")
        return _any_text(field, "instr({}, ?)", value)

    def _less_or_more(self, field: Field, operator: str, value: str, column: int) -> Sql:
        start, end = self._range(field, value, column)
        if start == end:
            return f"{field.number} {operator} ?", (*field.arguments, start)
        bound = start if operator in ("<", ">=") else end  # after a day is after its end
        return f"{field.number} {'<' if operator[0] == '<' else '>='} ?", (*field.arguments, bound)

    def _range(self, field: Field, value: str, column: int) -> tuple[float, float]:
        """From and to of a number or a time; of a number both are the same."""
        name = field.name
        if field.kind in ("text", "texts"):
            self._fail(f"{name} is a text", column, f"Write {name}:{value} or {name}~{value}.")
        if field.kind == "moment":
            found = filtering.moment(value, self._now)
            if found is None:
                self._fail(f"'{value}' is no date", column, f"Write {name}>2026-11-01, {name}:today, or age<2d.")
            return found
        if field.kind == "seconds":
            length = filtering.span(value)
            if length is None:
                self._fail(f"'{value}' is no length of time", column, f"Write it with its unit: {name}<30m, 2h, 2d.")
            return length, length
        number = filtering.number(value)
        if number is None:
            self._fail(f"'{value}' is no number", column, "Write it like 0.01, 1e-3 or 4k.")
        return number, number

    def _equal(self, field: Field, value: str, column: int) -> Sql:
        number = filtering.number(value)
        match field.kind:
            case "text" if field.name == "status":
                return "status = ?", (self._status(value, column),)
            case "text" | "texts":
                return _any_text(field, "{} = ?", value)
            case "flag":
                if value.casefold() not in FLAGS:
                    self._fail(f"{field.name} is yes or no", column, f"Write {field.name}:yes, or is:{field.name}.")
                return f"{field.number} = ?", (*field.arguments, FLAGS[value.casefold()])
            case "moment" | "seconds":
                start, end = self._range(field, value, column)
                return (f"{field.number} = ?", (*field.arguments, start)) if start == end else (
                    f"{field.number} >= ? AND {field.number} < ?", (*field.arguments, start, *field.arguments, end))  # fmt: skip
            case "number" if number is None and value.casefold() not in ("nan", "inf", "-inf"):
                self._fail(f"'{value}' is no number", column, "Write it like 0.01, 1e-3 or 4k.")
        text = _any_text(field, "{} = ?", value)
        if number is None:
            return text
        return _joined(" OR ", [(f"coalesce({field.number} = ?, 0)", (*field.arguments, number)), text])

    def _fail(self, problem: str, column: int, hint: str) -> NoReturn:
        raise FilterError(problem, self._text, column, hint)


def _joined(joint: str, parts: list[Sql]) -> Sql:
    return joint.join(f"({sql})" for sql, _ in parts), tuple(one for _, more in parts for one in more)


def _there(field: Field, empty: bool = True) -> Sql:
    """Whether something is known of a field. `empty`: an empty text, or no tag, is something that is known."""
    nothing = "IS NOT NULL" if empty or field.kind not in ("text", "texts", "either") else "NOT IN ('', '[]')"
    return f"coalesce({field.value} {nothing}, 0)", field.arguments


def _any_text(field: Field, test: str, value: str) -> Sql:
    """Whether the text of a field, or any of its texts, passes a test with a folded value."""
    folded = value.casefold()
    if field.kind == "texts":
        any_of = f"EXISTS (SELECT 1 FROM json_each({field.value}) WHERE {test.format('folded(value)')})"
        return any_of, (*field.arguments, folded)
    tests = [(test.format(f"folded({text})"), (*field.arguments, folded)) for text in (field.value, field.also) if text]
    return _joined(" OR ", tests)


def as_phrase(text: str) -> str:
    """A query of the full-text search: these words side by side, the last of them perhaps only the beginning of one."""
    return '"' + text.replace("\0", " ").replace('"', '""') + '" *'


def values(
    db: sqlite3.Connection, names: Sequence[str], ids: Sequence[str] | None = None
) -> dict[str, tuple[Any, ...]]:
    """By run, of all or those with these ids, the value of each field; None if unknown. Raises RunError.

    Numbers are int or float (a metric that is no number any more is nan), tags a tuple, stars and the like a bool,
    times unix seconds, lengths of time seconds, all else text.
    """
    now = time.time()
    asked = [fields.resolve(db, name, now) for name in names]
    some = "" if ids is None else " WHERE id IN (SELECT value FROM json_each(?))"
    chosen = () if ids is None else (json.dumps(list(ids)),)
    expressions = "".join(f", {field.value}" for field in asked)
    arguments = [argument for field in asked for argument in field.arguments]
    cursor = db.cursor()
    cursor.row_factory = None
    rows = cursor.execute(f"SELECT id{expressions} FROM runs{some}", (*arguments, *chosen))
    return {row[0]: tuple(map(_value, asked, row[1:])) for row in rows}


def _value(field: Field, value: Any) -> Any:
    if value is None:
        return None
    match field.kind:
        case "texts":
            return tuple(json.loads(value))
        case "flag":
            return bool(value)
        case "number" if isinstance(value, str):  # nan, inf
            return float(value)
        case "either":
            return _number_or_text(value)
    return None if value == "" else value


def _number_or_text(value: str) -> int | float | str | None:
    if value[:1] in "-0123456789":
        try:
            number = json.loads(value)
            return number if isinstance(number, int | float) and math.isfinite(number) else value
        except ValueError:
            pass
    return None if value in ("", "[]") else value
