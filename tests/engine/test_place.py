"""What a database lies on, and how it is written there."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from engine import checkup, doctor
from engine.errors import StoreError
from engine.store import place
from engine.store.connection import open_database, transaction
from engine.store.place import Place, find, place_of

LINES = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 27 0:40 / /home rw,nosuid shared:12 - autofs systemd-1 rw,fd=41
32 31 0:41 /u /home rw,relatime shared:13 - nfs4 server:/export rw,vers=4.2
33 32 0:42 / /home/me/sea rw - fuse.sshfs me@far:/data rw
34 27 0:43 / /a\040b\134c rw - lustre x@tcp:/y rw,flock
35 27 0:44 / /read ro,relatime - ext4 /dev/vdb rw
36 27 0:45 / /cd rw - iso9660 /dev/sr0 ro
a line of another kind
"""
WRITER = """
import sys
from pathlib import Path
from engine.store import metrics, place
from engine.store.connection import open_database, transaction
path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
place.MOUNTS = path.parent.parent / "mountinfo"
db = open_database(path, create=False)
assert db.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
for step in range(count):
    with transaction(db):
        metrics.add(db, name, "loss", [(step, 1, 1.0, float(step))])
"""


@pytest.mark.parametrize(
    ("path", "kind", "mount"),
    [
        ("/var/x.db", "ext4", "/"), ("/home/me/x.db", "nfs4", "/home"), ("/homes/x.db", "ext4", "/"), ("/home", "nfs4", "/home"),
        ("/home/me/sea/x.db", "fuse.sshfs", "/home/me/sea"), (r"/a b\c/x.db", "lustre", r"/a b\c"),
    ],
)  # fmt: skip
def test_the_longest_mount_point_above_a_path(path: str, kind: str, mount: str) -> None:
    found = find(LINES, path)
    assert (found.kind, found.mount, found.read_only) == (kind, mount, False)


def test_read_only_by_the_mount_or_by_the_file_system() -> None:
    assert find(LINES, "/read/x").read_only
    assert find(LINES, "/cd/x").read_only


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "fuse.sshfs", "9p"])
def test_what_several_machines_may_have(kind: str) -> None:
    assert Place(kind, "/x").network


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuseblk", "fuse.mergerfs", ""])
def test_what_one_machine_has(kind: str) -> None:
    assert not Place(kind, "/x").network


def test_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(place, "MOUNTS", tmp_path / "none")
    assert place_of(tmp_path) == Place()


def test_this_machine(tmp_path: Path) -> None:
    here = place_of(tmp_path / "x.db")
    assert os.path.ismount(here.mount)
    link = tmp_path / "link"
    link.symlink_to("/proc")
    assert place_of(link / "x.db").kind == "proc"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for databases, which is on a network file system as far as the program can tell."""
    monkeypatch.setattr(place, "MOUNTS", tmp_path / "mountinfo")
    lies_on(tmp_path, "nfs4")
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def lies_on(root: Path, kind: str) -> None:
    line = f"40 27 0:50 / {root / 'home'} rw - {kind} server:/x rw\n"
    (root / "mountinfo").write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n{line}")


def mode(db: sqlite3.Connection) -> tuple[str, int]:
    return db.execute("PRAGMA journal_mode").fetchone()[0], db.execute("PRAGMA synchronous").fetchone()[0]


class TestJournal:
    def test_a_new_one_on_a_network_file_system(self, home: Path) -> None:
        db = open_database(home / "x.db")
        assert mode(db) == ("delete", 2)
        with transaction(db):
            db.execute("INSERT INTO params VALUES ('r', 'p', 'v')")
        assert sorted(path.name for path in home.iterdir()) == ["x.db", "x.db.lock"]
        assert (home / "x.db.lock").stat().st_mode & 0o777 == 0o600

    def test_one_that_is_moved_there_and_back(self, home: Path, tmp_path: Path) -> None:
        said: list[str] = []
        lies_on(tmp_path, "xfs")
        db = open_database(home / "x.db", say=said.append)
        assert mode(db) == ("wal", 1)
        db.execute("INSERT INTO params VALUES ('r', 'p', 'v')")
        db.close()
        lies_on(tmp_path, "lustre")
        for _ in range(2):
            db = open_database(home / "x.db", say=said.append)
            assert mode(db) == ("delete", 2)
            assert db.execute("SELECT value FROM params").fetchone()["value"] == "v"
            db.close()
        assert len(said) == 1
        assert "Network file system (lustre)" in said[0]
        lies_on(tmp_path, "xfs")
        assert mode(open_database(home / "x.db", say=said.append)) == ("wal", 1)
        assert len(said) == 1

    def test_another_program_that_holds_it_in_the_wrong_mode_is_waited_for(self, home: Path, tmp_path: Path) -> None:
        lies_on(tmp_path, "xfs")
        holder = open_database(home / "x.db")
        lies_on(tmp_path, "nfs4")
        with pytest.raises(StoreError, match=r"nfs4.*another program holds it"):
            open_database(home / "x.db", patience=0.2)
        assert mode(holder)[0] == "wal"
        holder.close()
        assert mode(open_database(home / "x.db"))[0] == "delete"

    def test_on_a_local_disk_one_that_is_read_is_used_as_it_is(self, home: Path, tmp_path: Path) -> None:
        reader = open_database(home / "x.db")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM runs").fetchone()
        lies_on(tmp_path, "xfs")
        db = open_database(home / "x.db")
        assert mode(db) == ("delete", 2)
        reader.execute("COMMIT")
        assert mode(open_database(home / "x.db")) == ("wal", 1)

    def test_it_is_said_by_check_and_by_the_doctor(self, home: Path, tmp_path: Path) -> None:
        open_database(home / "x.db").close()
        found = {one.name: one for one in checkup.check(home / "x.db").checks}
        assert "nfs4" in found["file system"].text
        assert "network" in found["file system"].text
        assert found["journal"].text == "rollback journal"
        assert "network file system" in doctor._database(home / "x.db").text
        lies_on(tmp_path, "fuse.sshfs")
        found = {one.name: one for one in checkup.check(home / "x.db").checks}
        assert "one machine at a time" in found["file system"].hint

    def test_check_says_so_of_a_log_that_is_left(self) -> None:
        assert checkup.journal("wal", Place("nfs", "/x")).level == "fatal"
        assert checkup.journal("wal", Place("ext4", "/")).level == "ok"


HOSTS = ["host-a", "host-b", "host-a", "host-b"]


def test_four_writers_on_two_hosts_lose_nothing(home: Path) -> None:
    """In processes that have another host name each, as far as that can be made here."""
    path, count = home / "x.db", 25
    open_database(path).close()
    own = (
        shutil.which("unshare")
        and not subprocess.run(["unshare", "--uts", "true"], capture_output=True, check=False).returncode
    )
    processes = []
    for number, host in enumerate(HOSTS):
        python = [sys.executable, "-c", WRITER, str(path), f"run{number}", str(count)]
        command = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host, *python] if own else python
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    reader = open_database(path, create=False)
    while any(one.poll() is None for one in processes):
        with contextlib.suppress(subprocess.TimeoutExpired):
            processes[-1].wait(0.05)
        assert reader.execute("SELECT count(*) FROM points").fetchone()[0] <= count * len(HOSTS)
    assert [(one.communicate()[1], one.returncode) for one in processes] == [("", 0)] * len(HOSTS)
    assert reader.execute("SELECT count(*), count(DISTINCT series) FROM points").fetchone()[:] == (count * 4, 4)
    assert reader.execute("SELECT group_concat(last) FROM latest").fetchone()[0] == ",".join([f"{count - 1}.0"] * 4)
    assert mode(reader)[0] == "delete"
