"""`python -m bench.startup`: how long until the app's first paint, and until `tunedeck runs` has listed 1,000 runs.

First paint is the first output that names TuneDeck, in a pseudo-terminal of 80x24; a bare Textual app and `import
textual` stand beside it, run in turn.
"""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

from bench.table import median, publish, spread
from engine.spec import parse
from engine.store import metrics, runs
from engine.store.connection import open_database, transaction

ROUNDS = 7
BARE = "from textual.app import App\nfrom textual.widgets import Label\nclass A(App):\n def compose(self): yield Label('TuneDeck')\nA().run()"


def fill(database: Path, count: int) -> None:
    """A database of so many finished runs, eight metrics of five points each."""
    db = open_database(database)
    spec = parse({"model": {"path": "/models/SmolLM2-135M"}, "data": {"path": "/data/rows.jsonl"}})
    with transaction(db):
        for i in range(count):
            named = spec.model_copy(update={"run": spec.run.model_copy(update={"name": f"run-{i:04}"})})
            run_id = f"{i:06}"
            runs.insert(db, run_id, named, {"reasons": []}, "bench", 1.79e9 + i)
            runs.set_fields(db, run_id, status="finished", started_at=1.79e9 + i, ended_at=1.79e9 + i + 60)
            for key in ("loss", "eval_loss", "learning_rate", "grad_norm", "num_tokens", "tokens_per_second",
                        "mean_token_accuracy", "memory_allocated_gib"):  # fmt: skip
                metrics.add(db, run_id, key, [(s, 1, 1.79e9 + s, 2.0 / (s + 1) + i * 1e-4) for s in range(5)])
    db.close()


def first_paint(command: list[str]) -> float:
    """Seconds until the program has written the word TuneDeck to its terminal."""
    began = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="80", LINES="24")
        os.execv(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    seen = b""
    while b"TuneDeck" not in seen:
        ready, _, _ = select.select([terminal], [], [], 20)
        if not ready:
            raise SystemExit(f"{command} painted nothing in 20 s")
        seen += os.read(terminal, 65536)
    took = time.perf_counter() - began
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(terminal)
    return took


def whole(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        database = Path(directory) / "experiments.db"
        fill(database, 1000)
        tunedeck = [sys.executable, "-m", "tuiapp", "--db", str(database)]
        cases: dict[str, Callable[[], float]] = {
            "import textual": lambda: whole([sys.executable, "-c", "import textual.app"]),
            "bare Textual app, first paint": lambda: first_paint([sys.executable, "-c", BARE]),
            "tunedeck, 1,000 runs, first paint": lambda: first_paint(tunedeck),
            "tunedeck runs, 1,000 runs": lambda: whole([*tunedeck, "runs"]),
            "tunedeck runs --json, 1,000 runs": lambda: whole([*tunedeck, "runs", "--json"]),
            "tunedeck --help": lambda: whole([*tunedeck, "--help"]),
        }
        took: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, case in cases.items():
                took[name].append(case())
    base = median(took["bare Textual app, first paint"])
    rows = [[name, spread(times), f"{median(times) / base:.2f}"] for name, times in took.items()]
    publish("startup", f"Seconds until something is there, median of {ROUNDS} (least–most)",
            ["what", "seconds", "against a bare app"], rows)  # fmt: skip


if __name__ == "__main__":
    main()
