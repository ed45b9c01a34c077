"""The verbs that change runs that there are: tag, note, rename, star, archive, delete, undelete, purge."""

import argparse
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.cli_runs import chosen
from engine.errors import RunError
from engine.options import everywhere
from engine.store import changes, runs
from engine.store.runs import Row
from engine.text import clean

Options = argparse.Namespace
Verb = Callable[..., argparse.ArgumentParser]
RUN = "id, unique beginning of one, or name"
FILTER = "the runs that pass it, archived ones too: see tunedeck runs --help"
DONE = ("id", "name", "tags", "note", "starred", "archived", "deleted_at")
"""What --json says of each run that was changed."""


def add_verbs(verb: Verb) -> None:
    """Add them to the parser."""
    tag_ = verb("tag", tag, "add tags with +TAG, take them away with -TAG; without either: what tags they have")
    tag_.usage = "tunedeck tag [--json] [--filter Q] RUN ... [+TAG ...] [-TAG ...]"
    _tag_flags(tag_, argparse.REMAINDER)
    note_ = verb("note", note, "write a note about a run; without a text: read it")
    note_.add_argument("run", metavar="RUN", help=RUN)
    note_.add_argument("text", nargs="?", metavar="TEXT", help='- reads it from standard input; "" takes it away')
    note_.add_argument("--edit", action="store_true", help="write it in $VISUAL or $EDITOR")
    rename_ = verb("rename", rename, "give a run another name")
    rename_.add_argument("run", metavar="RUN", help=RUN)
    rename_.add_argument("name", metavar="NAME")
    for name, function, text, off in (
        ("star", star, "mark runs to come back to", "take the star away"),
        ("archive", archive, "take runs out of the list; nothing of them is lost", "put them back"),
    ):
        one = verb(name, function, text)
        _some_runs(one)
        one.add_argument("--off", action="store_true", help=off)
    _some_runs(verb("delete", delete, "put runs into the bin; undelete takes them out, purge deletes them for good"))
    _some_runs(verb("undelete", undelete, "take runs out of the bin"))
    purge_ = verb("purge", purge, "delete runs for good with all their files; without RUN: all that are in the bin")
    _some_runs(purge_)
    purge_.add_argument("--yes", action="store_true", help="do not ask")
    purge_.add_argument("--anyway", action="store_true", help="even if another run reads files of theirs")


def _some_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="*", metavar="RUN", help=RUN)
    parser.add_argument("--filter", default="", metavar="Q", help=FILTER)


def _tag_flags(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument("--filter", default="", metavar="Q", help=FILTER)
    parser.add_argument("words", nargs=words, metavar="RUN|+TAG|-TAG", help=f"{RUN}; what to add; what to take away")


def meant(db: sqlite3.Connection, options: Options, deleted: bool | None = False) -> list[Row]:
    """The runs that a verb names or filters, each once. `deleted`: as `runs.find` has it. Raises RunError."""
    if not options.run and not options.filter:
        raise RunError("Which runs?", "Name some, or choose them with --filter.", "List them: tunedeck runs")
    ids = [runs.find(db, name, deleted)["id"] for name in options.run]
    if options.filter:
        ids += chosen(db, options.filter, archived=True, deleted=bool(deleted))
    if not ids:
        raise RunError(
            "No run passes the filter", f"'{options.filter}' lets none through.", "Try it: tunedeck runs --filter ..."
        )
    return [runs.find(db, run_id, None) for run_id in dict.fromkeys(ids)]


def _told(db: sqlite3.Connection, found: Sequence[Row], options: Options, say: Callable[[Row], str]) -> int:
    """What became of the runs: for people a sentence each."""
    from engine import cli

    now = [runs.find(db, row["id"], None) for row in found]
    if options.json:
        cli.emit([{key: row[key] for key in DONE} for row in now])
    else:
        for row in now:
            print(clean(f"{row['name']}  {row['id']}  {say(row)}", keep_lines=False))
    return 0


def tag(options: Options) -> int:
    """argparse takes -TAG for a flag: such words are taken out, and what is left is read again."""
    from engine import cli

    fewer = [word[1:] for word in options.words if re.match(r"-[^-]", word)]
    again = argparse.ArgumentParser(prog="tunedeck tag", parents=[everywhere()])
    again.add_argument("--json", action="store_true", default=options.json)
    _tag_flags(again, "*")
    again.set_defaults(filter=options.filter)
    options = again.parse_args([word for word in options.words if not re.match(r"-[^-]", word)], options)
    more = [word[1:] for word in options.words if word.startswith("+")]
    options.run = [word for word in options.words if not word.startswith("+")]
    db = cli.opened(options)
    found = meant(db, options)
    for row in found:
        if more or fewer:
            changes.change_tags(db, row["id"], more, fewer)
    return _told(db, found, options, lambda row: ", ".join(row["tags"] or ()) or "no tags")


def note(options: Options) -> int:
    from engine import cli

    db = cli.opened(options)
    row = runs.find(db, options.run)
    if options.edit:
        changes.set_note(db, row["id"], _edited(row["note"] or ""))
    elif options.text is not None:
        changes.set_note(db, row["id"], sys.stdin.read() if options.text == "-" else options.text)
    elif not options.json:
        print(clean(row["note"] or "") or "No note.")
        return 0
    return _told(db, [row], options, lambda row: row["note"] or "no note")


def _edited(text: str) -> str:
    """What the user makes of a text in their editor. Raises RunError if the editor fails."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "note.txt"
        file.write_text(text, encoding="utf-8")
        try:
            code = subprocess.run([*shlex.split(editor), str(file)], check=False).returncode
        except (OSError, ValueError) as error:
            raise RunError("The editor cannot be started", f"{editor}: {error}.", "Set $EDITOR.") from None
        if code:
            raise RunError(
                "The note is as it was",
                f"{editor} ended with exit code {code}.",
                "Try again, or give the text on the command line.",
            )
        return file.read_text(encoding="utf-8", errors="replace")


def rename(options: Options) -> int:
    from engine import cli

    db = cli.opened(options)
    row = runs.find(db, options.run)
    before = changes.rename(db, row["id"], options.name)
    return _told(db, [row], options, lambda _: f"was {before}")


def star(options: Options) -> int:
    return _each(options, lambda db, row: changes.star(db, row["id"], not options.off),
                 "has no star any more" if options.off else "is starred: tunedeck runs --filter is:starred")  # fmt: skip


def archive(options: Options) -> int:
    return _each(options, lambda db, row: changes.archive(db, row["id"], not options.off),
                 "is back in the list" if options.off else "is archived: tunedeck runs --all")  # fmt: skip


def _each(options: Options, change: Callable[[sqlite3.Connection, Row], Any], said: str) -> int:
    from engine import cli

    db = cli.opened(options)
    found = meant(db, options)
    for row in found:
        change(db, row)
    return _told(db, found, options, lambda _: said)


def delete(options: Options) -> int:
    from engine import cli

    db = cli.opened(options)
    found = meant(db, options)
    changes.bin(db, [row["id"] for row in found])
    sizes = {row["id"]: changes.disk(cli.database(options), row["id"]) for row in found}
    _told(db, found, options, lambda row: f"is in the bin, {size(sizes[row['id']])} on the disk")
    if not options.json:
        ids = " ".join(row["id"] for row in found)
        print(f"\nUndo: tunedeck undelete {ids}\nFree {size(sum(sizes.values()))} for good: tunedeck purge {ids}")
    return 0


def undelete(options: Options) -> int:
    from engine import cli

    db = cli.opened(options)
    found = meant(db, options, deleted=True)
    changes.unbin(db, [row["id"] for row in found])
    return _told(db, found, options, lambda _: "is back")


def purge(options: Options) -> int:
    """Says what it would free, asks, then deletes. Raises RunError where nobody can be asked."""
    from engine import cli

    db, database = cli.opened(options), cli.database(options)
    changes.finish(db, database)
    if options.run or options.filter:
        found = meant(db, options, deleted=None if options.run else True)
    else:
        found = [runs.find(db, run_id, None) for run_id in changes.binned(db)]
    if not found:
        print("[]" if options.json else "The bin is empty.")
        return 0
    ids = [row["id"] for row in found]
    sizes = {run_id: changes.disk(database, run_id) for run_id in ids}
    if not options.json:
        _say_what_goes(db, found, sizes)
    if not options.yes and not _agreed(len(found), sum(sizes.values()), options):
        return 1
    freed = changes.purge(db, database, ids, options.anyway)
    if options.json:
        cli.emit([{"id": row["id"], "name": row["name"], "freed": sizes[row["id"]]} for row in found])
    else:
        print(f"{_runs(len(found))} deleted, {size(freed)} freed. The database gets smaller with: tunedeck db vacuum")
    return 0


def _say_what_goes(db: sqlite3.Connection, found: Sequence[Row], sizes: dict[str, int]) -> None:
    from engine import report

    rows = [[row["id"], f"{report.GLYPHS[row['status']]} {row['status']}", row["name"],
             "in the bin" if row["deleted_at"] else "in the list", size(sizes[row["id"]])] for row in found]  # fmt: skip
    print(report.table(["id", "status", "name", "where", "disk"], rows, (4,)))
    names = {row["id"]: row["name"] for row in found}
    for use in changes.uses(db, list(sizes)):
        says = (
            f"reads files of {names[use.of]} ({use.reads})"
            if use.reads
            else f"is a fork of {names[use.of]}, and goes on without it"
        )
        print(clean(f"  {use.name}  {use.run_id}  {says}", keep_lines=False))


def _agreed(count: int, freed: int, options: Options) -> bool:
    if options.json or not sys.stdin.isatty():
        raise RunError("Nothing was deleted", f"{_runs(count)} and {size(freed)} would be gone for good.", "Say --yes.")
    print(f"Delete {_runs(count)} for good and free {size(freed)}? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().casefold() in ("y", "yes"):
        return True
    print("Nothing was deleted.")
    return False


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


def size(count: float) -> str:
    """Bytes as people say them: `11.2 MiB`."""
    for unit in ("KiB", "MiB"):
        count /= 1024
        if count < 1000:
            return f"{count:,.1f} {unit}"
    return f"{count / 1024:,.1f} GiB"
