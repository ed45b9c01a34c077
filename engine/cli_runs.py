"""`tunedeck runs`: the list, filtered, in any order, with any columns, in groups; as a table, JSON or CSV."""

import argparse
import csv
import json
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from engine import filtering, report
from engine.events import finite
from engine.store import fields, query, searching
from engine.store.documents import documents
from engine.text import clean

Options = argparse.Namespace
Verb = Callable[..., argparse.ArgumentParser]
FILTER_HELP = "only some: 'status:finished lr<1e-3 tag:keep model~qwen eval_loss<1.2 -note:debug'; see below"
LANGUAGE = """
the filter:
  qwen support             every word is somewhere in name, model, method, status, data, id, tags or note
  status:failed,oom        any of these        -status:failed   NOT status:failed   none of these
  lr<1e-3  rank>=16        a parameter: its path in the specification, or the last part of it
  eval_loss<1.2            a metric's last value; also .best .min .max .smooth (mean of the last 50 points) .step
  model~qwen  note!~debug  contains, contains not              tag:keep  tag:none
  age<2d  time>1h30m       created>2026-11-01  ended:today     s, m, h, d, w
  has:eval_loss  lr:none   something, or nothing is known      what is not known passes no comparison
  is:starred               archived deleted active ended imported fork sweep, or a status
  text:"out of mem"        words side by side in names, notes, tags, reasons and logs; log: in logs alone
  a b   a AND b   a OR b   (a OR b) -c   "a word with spaces"
"""
ORDER = "-created"
PLAIN = ("id", "status", "name", "model", "method", "rank", "loss", "best_eval", "peak_gib", "tok/s", "started", "ended")  # fmt: skip
"""What the table shows where no columns are chosen, and what it is made of."""
SHEET = ("id", "name", "status", "project", "model", "method", "rank", "lr", "data", "loss", "best_eval", "peak_gib", "tok/s",
         "created", "time", "tag", "note")  # fmt: skip
"""The columns of --csv where none are chosen."""


def add_verb(verb: Verb) -> None:
    """Add it to the parser."""
    runs_ = verb("runs", list_runs, "list the runs, newest first")
    runs_.epilog, runs_.formatter_class = LANGUAGE, argparse.RawDescriptionHelpFormatter
    runs_.add_argument("--filter", default="", metavar="Q", help=FILTER_HELP)
    runs_.add_argument("--sort", metavar="KEY", help="a column, a metric (eval_loss, eval_loss.best, loss.smooth) or a "
                       "parameter (training.learning_rate, rank); -KEY for the greatest first; several with commas")  # fmt: skip
    runs_.add_argument("--columns", metavar="A,B,C", help="what to show of each run; named as for --sort")
    runs_.add_argument("--group", metavar="FIELD", help="one line for each value of this, with the first run by --sort: "
                       "the best eval loss if open")  # fmt: skip
    runs_.add_argument("--limit", type=int, metavar="N", help="at most so many runs")
    runs_.add_argument("--all", action="store_true", help="archived ones too")
    runs_.add_argument("--deleted", action="store_true", help="those in the bin")
    runs_.add_argument("--csv", action="store_true", help="one line a run on standard output, with a heading")
    runs_.add_argument("--fields", action="store_true", help="what can be filtered, sorted and shown here; no runs")


def joined(arguments: Sequence[str]) -> list[str]:
    """`--sort -created` as argparse takes it, which holds what begins with a minus for a flag: `--sort=-created`."""
    done: list[str] = []
    for word in arguments:
        if done and done[-1] in ("--sort", "--filter") and re.match(r"-[^-]", word):
            done[-1] += f"={word}"
        else:
            done.append(word)
    return done


def list_runs(options: Options) -> int:
    from engine import cli

    path = cli.database(options)
    if not path.exists():  # a first look is no error
        filtering.parse(options.filter)
        none = f"No runs yet ({path} does not exist). Start one: tunedeck train, or tunedeck demo"
        print("[]" if options.json else "" if options.csv else none)
        return 0
    db = cli.opened(options)
    if options.fields:
        return _print_fields(db, options)
    order = options.sort or ("best_eval" if options.group else ORDER)
    ids = chosen(db, options.filter, order, options.all, options.deleted)[: options.limit]
    columns = [name.strip() for name in (options.columns or "").split(",") if name.strip()]
    if options.group:
        _print_groups(db, ids, options.group, order, options)
    elif options.csv:
        _print_csv(db, ids, columns or SHEET)
    elif options.json:
        _print_json(db, ids, columns)
    elif not ids:
        print(
            "No run passes the filter."
            if options.filter
            else "The bin is empty."
            if options.deleted
            else "No runs yet."
        )
    elif columns:
        _print_columns(db, ids, columns)
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(report.runs_table(_rows(db, ids), width))
    return 0


def chosen(
    db: sqlite3.Connection, text: str, order: str = ORDER, archived: bool = False, deleted: bool = False
) -> list[str]:
    """The ids that a filter means, everything that it searches taken in before. Raises FilterError."""
    expression = filtering.parse(text)
    asks = [*filtering.named(expression, "text"), *filtering.named(expression, "log")]
    if asks and (many := searching.unread(db)) > 5 * searching.AT_ONCE:
        print(f"Reading the logs of {many:,} older runs, this once ...", file=sys.stderr)
    if asks:
        searching.catch_up(db)
    return query.select(db, text, order, archived, deleted or None)


def _rows(db: sqlite3.Connection, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The runs as `report.runs_table` reads them."""
    values, rows = query.values(db, PLAIN, ids), []
    for run_id in ids:
        row = dict(zip(PLAIN, values[run_id], strict=True))
        metrics = {"loss": {"last": row["loss"]}, "eval_loss": {"best": row["best_eval"]},
                   "memory_allocated_gib": {"max": row["peak_gib"]}, "tokens_per_second": {"last": row["tok/s"]}}  # fmt: skip
        rows.append(row | {"latest": metrics, "started_at": row["started"], "ended_at": row["ended"],
                           "spec": {"method": {"rank": row["rank"]}}})  # fmt: skip
    return rows


def _print_fields(db: sqlite3.Connection, options: Options) -> int:
    from engine import cli

    found = {"columns": list(fields.COLUMNS), "short names": fields.ALIASES, "metrics": fields.metric_keys(db),
             "parameters": fields.parameters(db)}  # fmt: skip
    if options.json:
        cli.emit(found)
        return 0
    found["short names"] = [f"{short} = {full}" for short, full in fields.ALIASES.items()]
    for kind, names in found.items():
        more = f"   each also with .{', .'.join(fields.WHICH)}" if kind == "metrics" else ""
        print(f"{kind}{more}")
        print("\n".join(f"  {clean(name, keep_lines=False)}" for name in names) + "\n")
    return 0


def _print_json(db: sqlite3.Connection, ids: Sequence[str], columns: Sequence[str]) -> None:
    if not columns:
        _print_list(documents(db, ids))
        return
    values = query.values(db, columns, ids)
    _print_list(json.dumps(finite({"id": run_id} | dict(zip(columns, values[run_id], strict=True))), ensure_ascii=False)
                for run_id in ids)  # fmt: skip


def _print_list(texts: Iterable[str]) -> None:
    """One JSON list, an object a line."""
    between = "[\n"
    for text in texts:
        sys.stdout.write(between + text)
        between = ",\n"
    print("[]" if between == "[\n" else "\n]")


def _print_columns(db: sqlite3.Connection, ids: Sequence[str], columns: Sequence[str]) -> None:
    kinds = [_kind(db, name) for name in columns]
    values = query.values(db, columns, ids)
    cells = [[_cell(kind, value) for kind, value in zip(kinds, values[run_id], strict=True)] for run_id in ids]
    # of a column that may be numbers and texts its values say which
    right = [i for i, kind in enumerate(kinds) if kind in ("number", "seconds")
             or (kind == "either" and not any(isinstance(row[i], str) for row in values.values()))]  # fmt: skip
    print(report.table([clean(name, keep_lines=False) for name in columns], cells, right))


def _kind(db: sqlite3.Connection, name: str) -> str:
    return "status" if name == "status" else fields.resolve(db, name).kind


def _cell(kind: str, value: Any) -> str:
    """A value as a person reads it; a dash for what is not known."""
    if value is None or value == ():
        return "–"
    match kind:
        case "status":
            return f"{report.GLYPHS[value]} {value}"
        case "moment":
            return time.strftime("%Y-%m-%d %H:%M", time.localtime(value))
        case "seconds":
            return report.duration(value)
        case "flag":
            return "yes" if value else "no"
        case "texts":
            return ", ".join(value)
    return value if isinstance(value, str) else report.short(value)


def _print_csv(db: sqlite3.Connection, ids: Sequence[str], columns: Sequence[str]) -> None:
    """Numbers as they are, lengths of time in seconds, times as ISO 8601 in UTC, tags with commas; the unknown is empty."""
    kinds = [_kind(db, name) for name in columns]
    values = query.values(db, columns, ids)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(clean(name, keep_lines=False) for name in columns)
    for run_id in ids:
        writer.writerow(_plain(kind, value) for kind, value in zip(kinds, values[run_id], strict=True))


def _plain(kind: str, value: Any) -> Any:
    if kind == "moment" and value is not None:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if kind == "flag" and value is not None:
        return int(value)
    value = ", ".join(value) if isinstance(value, tuple) else value
    return clean(value) if isinstance(value, str) else value


def _print_groups(db: sqlite3.Connection, ids: Sequence[str], field: str, order: str, options: Options) -> None:
    """A line for each value of the field, in the order of the first run of each."""
    from engine import cli

    key = order.split(",")[0].removeprefix("-")
    values = query.values(db, [field, key, "name"], ids)
    groups: dict[Any, list[str]] = {}
    for run_id in ids:
        value = values[run_id][0]
        for one in (
            value or (None,) if isinstance(value, tuple) or value is None else (value,)
        ):  # a run is in each of its tags
            groups.setdefault(one, []).append(run_id)
    if options.json:
        cli.emit(finite([{field: value, "runs": members, "first": {"id": members[0], "name": values[members[0]][2],
                          key: values[members[0]][1]}} for value, members in groups.items()]))  # fmt: skip
        return
    kind, by = _kind(db, field), _kind(db, key)
    rows = [[_cell("text" if kind == "texts" else kind, value), f"{len(members):,}", _cell(by, values[members[0]][1]),
             values[members[0]][2], members[0]] for value, members in groups.items()]  # fmt: skip
    print(
        report.table(
            [clean(field, keep_lines=False), "runs", clean(key, keep_lines=False), "first run", "id"], rows, (1, 2)
        )
    )
