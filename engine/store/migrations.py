"""The schema, as an append-only list of migrations, one transaction each."""

from collections.abc import Callable
from typing import Any

INITIAL = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, project TEXT NOT NULL, status TEXT NOT NULL, method TEXT, model TEXT,
    dataset TEXT, created_at REAL NOT NULL, started_at REAL, ended_at REAL, exit_code INTEGER, exit_reason TEXT,
    spec TEXT NOT NULL, plan TEXT, environment TEXT, parent_id TEXT REFERENCES runs(id), host TEXT, pid INTEGER,
    tags TEXT NOT NULL DEFAULT '[]', note TEXT NOT NULL DEFAULT '', archived INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX runs_by_status ON runs(status);
CREATE TABLE params (run_id TEXT, path TEXT, value TEXT, PRIMARY KEY (run_id, path)) WITHOUT ROWID;
CREATE TABLE progress (
    run_id TEXT PRIMARY KEY, attempt INTEGER, phase TEXT, step INTEGER, total INTEGER, epoch REAL, time REAL
) WITHOUT ROWID;
CREATE TABLE series (id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, key TEXT NOT NULL, UNIQUE (run_id, key));
CREATE TABLE points (
    series INTEGER, step INTEGER, attempt INTEGER, time REAL, value, PRIMARY KEY (series, step, attempt)
) WITHOUT ROWID;
CREATE VIEW metrics AS
    SELECT series.run_id, series.key, points.step, points.time, points.value FROM points
    JOIN series ON series.id = points.series
    WHERE NOT EXISTS (
        SELECT 1 FROM points AS later
        WHERE later.series = points.series AND later.step = points.step AND later.attempt > points.attempt
    );
CREATE TABLE latest (
    run_id TEXT, key TEXT, step INTEGER, last, min, max, best, PRIMARY KEY (run_id, key)
) WITHOUT ROWID;
CREATE TABLE gpu_samples (
    run_id TEXT, time REAL, gpu INTEGER, memory_used REAL, utilization REAL, power REAL, temperature REAL,
    PRIMARY KEY (run_id, gpu, time)
) WITHOUT ROWID;
CREATE TABLE events (
    run_id TEXT, source TEXT, seq INTEGER, attempt INTEGER, time REAL, type TEXT, level TEXT, text TEXT, data TEXT,
    PRIMARY KEY (run_id, source, seq)
) WITHOUT ROWID;
CREATE TABLE checkpoints (
    run_id TEXT, step INTEGER, attempt INTEGER, time REAL, path TEXT, bytes INTEGER, eval_loss REAL,
    PRIMARY KEY (run_id, step)
) WITHOUT ROWID;
CREATE TABLE evaluations (
    run_id TEXT, step INTEGER, attempt INTEGER, time REAL, data TEXT, PRIMARY KEY (run_id, step)
) WITHOUT ROWID;
CREATE TABLE samples (
    run_id TEXT, step INTEGER, prompt TEXT, attempt INTEGER, time REAL, text TEXT, PRIMARY KEY (run_id, step, prompt)
) WITHOUT ROWID;
CREATE TABLE artifacts (
    run_id TEXT, kind TEXT, path TEXT, bytes INTEGER, time REAL, PRIMARY KEY (run_id, kind, path)
) WITHOUT ROWID;
CREATE TABLE ingested (run_id TEXT, source TEXT, offset INTEGER, PRIMARY KEY (run_id, source)) WITHOUT ROWID;
"""


def _initial(db: Any) -> None:
    _script(db, INITIAL)


def _throttle(db: Any) -> None:
    """Why a card's clocks were held down: see engine.hardware.THROTTLE."""
    db.execute("ALTER TABLE gpu_samples ADD COLUMN throttle TEXT")


TRACKER = """
ALTER TABLE runs ADD COLUMN starred INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN deleted_at REAL;
ALTER TABLE runs ADD COLUMN sweep_id TEXT;
ALTER TABLE runs ADD COLUMN source TEXT;
CREATE INDEX runs_by_sweep ON runs(sweep_id) WHERE sweep_id IS NOT NULL;
CREATE TABLE sweeps (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, status TEXT NOT NULL, created_at REAL NOT NULL, ended_at REAL, host TEXT,
    plan TEXT NOT NULL
);
ALTER TABLE latest ADD COLUMN smoothed;
ALTER TABLE series ADD COLUMN stored INTEGER NOT NULL DEFAULT 0;
ALTER TABLE series ADD COLUMN stretch INTEGER;
CREATE TABLE sketch (series INTEGER, step INTEGER, time REAL, value, PRIMARY KEY (series, step)) WITHOUT ROWID;
CREATE TABLE search_texts (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, part TEXT NOT NULL, text TEXT NOT NULL, UNIQUE (run_id, part)
);
CREATE VIRTUAL TABLE search USING fts5(text, content='search_texts', content_rowid='id');
CREATE TRIGGER search_text_added AFTER INSERT ON search_texts
    BEGIN INSERT INTO search (rowid, text) VALUES (new.id, new.text); END;
CREATE TRIGGER search_text_gone AFTER DELETE ON search_texts
    BEGIN INSERT INTO search (search, rowid, text) VALUES ('delete', old.id, old.text); END;
CREATE TRIGGER search_text_changed AFTER UPDATE ON search_texts
    BEGIN INSERT INTO search (search, rowid, text) VALUES ('delete', old.id, old.text); INSERT INTO search (rowid, text) VALUES (new.id, new.text); END;
CREATE TRIGGER run_added AFTER INSERT ON runs
    BEGIN INSERT INTO search_texts (run_id, part, text) VALUES (new.id, 'run', {words}); END;
CREATE TRIGGER run_changed AFTER UPDATE OF name, note, tags, exit_reason ON runs
    BEGIN UPDATE search_texts SET text = {words} WHERE run_id = new.id AND part = 'run'; END;
CREATE TRIGGER run_gone AFTER DELETE ON runs BEGIN DELETE FROM search_texts WHERE run_id = old.id; END;
INSERT INTO search_texts (run_id, part, text) SELECT new.id, 'run', {words} FROM runs AS new;
UPDATE series SET stored = (SELECT count(DISTINCT step) FROM points WHERE points.series = series.id);
UPDATE latest SET smoothed = (SELECT avg(value) FROM (
    SELECT value, max(attempt) FROM points
    WHERE series = (SELECT id FROM series WHERE series.run_id = latest.run_id AND series.key = latest.key)
    GROUP BY step ORDER BY step DESC LIMIT 50
) WHERE typeof(value) != 'text');
""".replace(
    "{words}", "new.name || char(10) || new.note || char(10) || new.tags || char(10) || coalesce(new.exit_reason, '')"
)


def _tracker(db: Any) -> None:
    """Stars, the bin, sweeps, where imported runs come from, smoothed values, long curves in short, full-text search."""
    _script(db, TRACKER)


VIEWS = """
CREATE VIEW run_overview AS
    SELECT runs.id, name, project, status, model, method,
        (SELECT CAST(value AS INTEGER) FROM params WHERE run_id = runs.id AND path = 'method.rank' AND method != 'full') AS rank,
        dataset, strftime('%Y-%m-%dT%H:%M:%SZ', created_at, 'unixepoch') AS created,
        round((coalesce(ended_at, progress.time) - started_at) / 60.0, 1) AS minutes, progress.step, progress.total AS steps,
        (SELECT CAST(value AS REAL) FROM params WHERE run_id = runs.id AND path = 'training.learning_rate') AS learning_rate,
        eval.best AS best_eval, eval.last AS last_eval, loss.last AS last_loss, loss.smoothed AS smoothed_loss,
        speed.last AS tokens_per_second, memory.max AS peak_gib,
        (SELECT group_concat(value, ', ') FROM json_each(tags)) AS tags, note, starred, archived, parent_id, sweep_id, source,
        exit_reason
    FROM runs LEFT JOIN progress ON progress.run_id = runs.id
    LEFT JOIN latest AS eval ON eval.run_id = runs.id AND eval.key = 'eval_loss'
    LEFT JOIN latest AS loss ON loss.run_id = runs.id AND loss.key = 'loss'
    LEFT JOIN latest AS speed ON speed.run_id = runs.id AND speed.key = 'tokens_per_second'
    LEFT JOIN latest AS memory ON memory.run_id = runs.id AND memory.key = 'memory_allocated_gib'
    WHERE deleted_at IS NULL;
CREATE VIEW eval_points AS
    SELECT metrics.run_id, runs.name, metrics.step, round((metrics.time - runs.started_at) / 60.0, 1) AS minutes,
        metrics.value AS eval_loss, metrics.value IS latest.best AS best,
        (SELECT path FROM checkpoints WHERE run_id = metrics.run_id AND checkpoints.step = metrics.step) AS checkpoint
    FROM metrics JOIN runs ON runs.id = metrics.run_id
    JOIN latest ON latest.run_id = metrics.run_id AND latest.key = metrics.key
    WHERE metrics.key = 'eval_loss' AND deleted_at IS NULL;
CREATE VIEW gpu_use AS
    SELECT run_id, runs.name, gpu, count(*) AS seconds, round(max(memory_used), 2) AS peak_gib,
        round(avg(utilization), 1) AS mean_utilization, round(avg(power), 1) AS mean_watts,
        round(sum(power) / 3600.0, 2) AS watt_hours, max(temperature) AS max_temperature
    FROM gpu_samples JOIN runs ON runs.id = run_id WHERE deleted_at IS NULL GROUP BY run_id, gpu;
CREATE VIEW timeline AS
    SELECT run_id, runs.name, strftime('%Y-%m-%dT%H:%M:%SZ', events.time, 'unixepoch') AS at, attempt, type, level, text
    FROM events JOIN runs ON runs.id = run_id WHERE type != 'sample' AND deleted_at IS NULL ORDER BY events.time, seq;
"""


def _views(db: Any) -> None:
    """For people with sqlite3 or Datasette; docs/database.md describes them."""
    _script(db, VIEWS)


NAMES = """
CREATE TABLE search_names (kind TEXT, name TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TRIGGER param_added AFTER INSERT ON params
    WHEN NOT EXISTS (SELECT 1 FROM search_names WHERE kind = 'param' AND name = new.path)
    BEGIN INSERT INTO search_names VALUES ('param', new.path); END;
CREATE TRIGGER series_added AFTER INSERT ON series
    WHEN NOT EXISTS (SELECT 1 FROM search_names WHERE kind = 'metric' AND name = new.key)
    BEGIN INSERT INTO search_names VALUES ('metric', new.key); END;
INSERT INTO search_names SELECT DISTINCT 'param', path FROM params WHERE path IS NOT NULL;
INSERT INTO search_names SELECT DISTINCT 'metric', key FROM series;
"""


def _names(db: Any) -> None:
    """What a filter may name: to look through 900,000 parameters for their names takes 0.3 s."""
    _script(db, NAMES)


def _families(db: Any) -> None:
    """Forks are found by their parent: in the rows that column lies behind long texts."""
    db.execute("CREATE INDEX runs_by_parent ON runs(parent_id) WHERE parent_id IS NOT NULL")


AFTER = """
CREATE TABLE jobs (
    run_id TEXT, job TEXT, kind TEXT NOT NULL, status TEXT NOT NULL, created_at REAL NOT NULL, started_at REAL, ended_at REAL,
    host TEXT, pid INTEGER, phase TEXT, done INTEGER, total INTEGER, ask TEXT NOT NULL, summary TEXT, reason TEXT,
    PRIMARY KEY (run_id, job)
) WITHOUT ROWID;
CREATE INDEX jobs_by_status ON jobs(status);
CREATE TABLE job_rows (
    run_id TEXT, job TEXT, row INTEGER, badness REAL, gain REAL, data TEXT NOT NULL, PRIMARY KEY (run_id, job, row)
) WITHOUT ROWID;
ALTER TABLE artifacts ADD COLUMN sha256 TEXT;
CREATE VIEW answers AS
    SELECT job_rows.run_id, runs.name, job_rows.job, job_rows.row, json_extract(data, '$.place') AS place,
        json_extract(data, '$.question') AS question, json_extract(data, '$.reference') AS reference,
        json_extract(data, '$.base.answer') AS base, json_extract(data, '$.tuned.answer') AS tuned,
        json_extract(data, '$.base.loss') AS base_loss, json_extract(data, '$.tuned.loss') AS tuned_loss, badness, gain
    FROM job_rows JOIN jobs ON jobs.run_id = job_rows.run_id AND jobs.job = job_rows.job
    JOIN runs ON runs.id = job_rows.run_id WHERE jobs.kind = 'eval' AND deleted_at IS NULL;
"""


def _after(db: Any) -> None:
    """Evaluations, verdicts, chats, merges and exports of trained runs."""
    _script(db, AFTER)


MIGRATIONS: list[tuple[str, Callable[[Any], None]]] = [
    ("initial", _initial), ("throttle", _throttle), ("tracker", _tracker), ("views", _views), ("names", _names), ("families", _families),
    ("after", _after),
]  # fmt: skip
VERSION = len(MIGRATIONS)


def _script(db: Any, text: str) -> None:
    """Statement by statement: `executescript` would commit the migration's transaction."""
    for statement in text.split(";\n"):
        if statement.strip():
            db.execute(statement)


def migrate(connection: Any, version: int = VERSION) -> None:
    """Bring a database to a version of the schema. The caller holds the lock."""
    # sqlite_utils imports pandas where it is installed (0.6 s), so only who migrates pays for it
    import sqlite_utils
    from sqlite_utils.migrations import Migrations

    steps = Migrations("tunedeck")
    for name, function in MIGRATIONS[:version]:
        steps(name=name)(function)
    db = sqlite_utils.Database(connection)
    steps.apply(db)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
