"""experiments.db.example: at the current schema, without names or paths of the machine that made it, readable anywhere."""

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.store.migrations import VERSION
from tests.helpers import Deck

EXAMPLE = Path(__file__).parent.parent.parent / "experiments.db.example"


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """The example on a disk that cannot be written."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a disk needs root")
    shutil.copy(EXAMPLE, disk / "experiments.db")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_it_opens_on_a_read_only_disk_and_leaves_nothing_beside_it(read_only: Path) -> None:
    deck = Deck(read_only / "experiments.db")
    listed = deck.json("runs")
    assert len(listed) >= 6
    assert deck.json("show", listed[0]["id"])["metrics"]["loss"]
    assert [p.name for p in read_only.iterdir()] == ["experiments.db"]


def test_opening_it_changes_neither_the_file_nor_its_directory(tmp_path: Path) -> None:
    copy = tmp_path / "experiments.db.example"
    shutil.copy(EXAMPLE, copy)
    Deck(copy).json("runs")
    assert copy.read_bytes() == EXAMPLE.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == [copy.name]


def test_it_shows_several_methods_ranks_and_learning_rates_and_how_runs_end() -> None:
    runs = Deck(EXAMPLE).json("runs")
    assert {run["method"] for run in runs} == {"lora", "qlora", "full"}
    assert {run["status"] for run in runs} >= {"finished", "stopped", "failed"}
    assert len({run["spec"]["method"]["rank"] for run in runs}) >= 3
    assert len({run["spec"]["training"]["learning_rate"] for run in runs}) >= 3
    trained = [run for run in runs if run["status"] == "finished"]
    assert all(run["latest"]["loss"]["last"] < run["latest"]["loss"]["max"] for run in trained)


def test_it_is_at_the_current_schema_and_names_no_machine() -> None:
    db = sqlite3.connect(f"file:{EXAMPLE}?immutable=1", uri=True)
    assert db.execute("PRAGMA user_version").fetchone()[0] == VERSION
    assert db.execute("PRAGMA journal_mode").fetchone()[0] in ("delete", "off")
    text = "\n".join(db.iterdump())
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users|usr|var)/", text)
    assert db.execute("SELECT count(*) FROM runs WHERE host IS NOT NULL OR pid IS NOT NULL").fetchone() == (0,)
    started = [json.loads(row[0]) for row in db.execute("SELECT data FROM events WHERE type = 'started'")]
    assert started
    assert not any("host" in data or "pid" in data for data in started)
    assert EXAMPLE.stat().st_size < 1_000_000
