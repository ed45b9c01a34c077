"""`python -m docs.example_database`: makes experiments.db.example from real runs of this program on the demo's model.

Several methods, ranks and learning rates, one run stopped and one failed; about ten minutes on two cores. Host names and
paths are taken out, the journal mode is DELETE, so that the file can be opened where nothing can be written.
"""

import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from engine import demo, launch
from engine.reconcile import reconcile
from engine.spec import RunSpec, parse
from engine.store import runs
from engine.store.connection import open_database

TARGET = Path(__file__).parent.parent / "experiments.db.example"
NOTES = {
    "captain-lora-r16": "The best of these: answers in the captain's voice after 20 steps.",
    "captain-lora-lr": "Ten times too high on purpose: the loss jumps.",
}


def spec(name: str, model: str, data: Path, steps: int = 20, **sections: Any) -> RunSpec:
    """A run on the captain's rows; every one is evaluated on the same eight."""
    training = {"max_steps": steps, "micro_batch": 4, "max_length": 256, **sections.pop("training", {})}
    return parse({
        "model": {"path": model}, "data": {"path": str(data), "validation": 8}, "training": training,
        "evaluation": {"every": 5, "prompts": demo.PROMPTS}, "saving": {"every": 10},
        "run": {"name": name, "project": "demo", "tags": ["example"], "note": NOTES.get(name, "")}, **sections,
    })  # fmt: skip


def specs(model: str, data: Path) -> list[RunSpec]:
    def lora(rank: int, **more: Any) -> dict[str, Any]:
        return {"kind": "lora", "rank": rank, **more}

    return [
        spec("captain-lora-r2", model, data, 12, method=lora(2), training={"learning_rate": 3e-4}),
        spec("captain-lora-lr", model, data, 12, method=lora(16), training={"learning_rate": 3e-2}),
        spec("captain-lora-attention", model, data, method=lora(16, targets="attention"), training={"learning_rate": 1e-3}),
        spec("captain-qlora-r16", model, data, method={"kind": "qlora", "rank": 16}, training={"learning_rate": 1e-3}),
        spec("captain-full", model, data, method={"kind": "full"}, training={"learning_rate": 5e-5}),
        spec("captain-too-long", model, data, method=lora(16), training={"max_length": 16}),
        spec("captain-lora-r8", model, data, 60, method=lora(8), training={"learning_rate": 5e-4}),
        spec("captain-lora-r16", model, data, method=lora(16), training={"learning_rate": 1e-3}),
    ]  # fmt: skip


def run_all(database: Path) -> None:
    """One after the other; captain-lora-r8 is stopped on its way."""
    model, data = demo.demo_model(), demo.write_data(database)
    for one in specs(model, data):
        run_id = launch.create(database, launch.prepare(one))
        db = open_database(database)
        while (run := runs.one(db, run_id))["status"] in runs.ACTIVE:
            reconcile(db, database)
            if one.run.name == "captain-lora-r8" and (run["progress"] or {}).get("step") == 12:
                launch.stop(database, run)
            time.sleep(0.3)
        db.close()
        print(f"{one.run.name}: {run['status']}, {run['exit_reason']}", flush=True)


def anonymize(database: Path, model: str) -> None:
    """Take out host, paths and process numbers; one file, nothing beside it."""
    db = sqlite3.connect(database)
    db.execute("UPDATE runs SET host = NULL, pid = NULL, model = 'SmolLM2-135M-Instruct'")
    db.execute("UPDATE events SET data = json_remove(data, '$.host', '$.pid', '$.process_start'), text = 'started'"
               " WHERE type = 'started'")  # fmt: skip
    db.execute("UPDATE events SET data = json_remove(data, '$.pid', '$.process_start'), text = 'worker started'"
               " WHERE type = 'attempt'")  # fmt: skip
    replaced = {model: demo.HUB_MODEL, str(database.parent): ".", sys.prefix: ".venv", str(TARGET.parent): "."}
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for column in [row[1] for row in db.execute(f"PRAGMA table_info({table})")]:
            for old, new in replaced.items():
                db.execute(f"UPDATE OR IGNORE {table} SET {column} = replace({column}, ?, ?) WHERE typeof({column}) = 'text'",
                           (old, new))  # fmt: skip
    db.execute("DELETE FROM ingested")
    db.commit()
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("VACUUM")
    db.close()


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="tunedeck-example-") as directory:
        database = Path(directory) / "experiments.db"
        run_all(database)
        anonymize(database, demo.demo_model())
        TARGET.write_bytes(database.read_bytes())
    listed = subprocess.run([sys.executable, "-m", "tuiapp", "--db", str(TARGET), "runs"], check=False)
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1024:.0f} KiB")
    return listed.returncode


if __name__ == "__main__":
    sys.exit(main())
