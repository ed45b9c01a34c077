"""A real app in a real terminal, killed: what was settled in the wizard is there when it is opened again."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

from tests.helpers import wait_for
from tests.tuiapp.wizard import write_rows
from tuiapp.draft import RunDraft, load


class Terminal:
    """An app on a pseudo-terminal of 80x24, whose output is read away and remembered."""

    def __init__(self, database: Path) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "TUNEDECK_CONFIG": str(database.parent / "none.yaml")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tuiapp", "--db", str(database)],
            stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.output = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while block := os.read(self.master, 65536):
                self.output += block
        except OSError:
            return

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.master)


def test_a_draft_survives_kill_9(tmp_path: Path) -> None:
    rows, database = write_rows(tmp_path), tmp_path / "experiments.db"
    file = tmp_path / "drafts" / "new.json"
    first = Terminal(database)
    wait_for(lambda: b"No runs yet" in first.output)
    first.type(f"n3{rows}\r")
    wait_for(lambda: (load(file) or RunDraft()).rows, 60)
    first.kill()
    draft = load(file)
    assert draft is not None
    assert (draft.data, draft.rows, draft.step) == (str(rows), {"data.filters.duplicates": "exact"}, 2)
    second = Terminal(database)
    wait_for(lambda: b"No runs yet" in second.output)
    second.type("n")
    wait_for(lambda: b"64 kept" in second.output.replace(b"\x1b[1m", b"") or b"rows.jsonl" in second.output, 60)
    second.kill()
    assert load(file) == draft


def test_the_app_ends_with_its_terminal(tmp_path: Path) -> None:
    """Also where nobody sends it a hangup, as in a container."""
    terminal = Terminal(tmp_path / "experiments.db")
    wait_for(lambda: b"No runs yet" in terminal.output)
    os.close(terminal.master)
    assert terminal.process.wait(30) == 0
