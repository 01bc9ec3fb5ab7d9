"""The journal's tables. Ordered steps: step n takes a file of `user_version` n-1 to n."""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "STEPS"]

APPLICATION_ID = 0x62617472
"""SQLite `application_id` of a journal ("batr"): tells our file from another program's."""

STEPS: tuple[str, ...] = (
    """
    CREATE TABLE manifest (
        name  TEXT PRIMARY KEY,
        value TEXT NOT NULL                 -- JSON
    ) WITHOUT ROWID;

    -- One line per try that may have reached the service. A row with a try and no outcome is in flight.
    CREATE TABLE attempts (
        row_key         TEXT NOT NULL,
        number          INTEGER NOT NULL,   -- from 1
        generation      INTEGER NOT NULL,   -- counts the runs, from 1
        idempotency_key TEXT NOT NULL,
        fingerprint     TEXT NOT NULL,
        started_at      TEXT NOT NULL,      -- UTC, ISO 8601
        thread_id       TEXT,               -- as soon as seen
        run_id          TEXT,
        run_ended       INTEGER NOT NULL DEFAULT 0,  -- 1: this run failed; the next try needs another
        fault_type      TEXT,               -- how the try ended, NULL while it runs or when it ended well
        fault           TEXT,
        PRIMARY KEY (row_key, number)
    ) WITHOUT ROWID;

    CREATE TABLE outcomes (
        row_key           TEXT NOT NULL UNIQUE,
        fingerprint       TEXT NOT NULL,
        status            TEXT NOT NULL,
        response          TEXT,
        error_type        TEXT,
        error             TEXT,
        thread_id         TEXT,
        run_id            TEXT,
        model             TEXT,
        prompt_tokens     INTEGER,
        completion_tokens INTEGER,
        total_tokens      INTEGER,
        cached_tokens     INTEGER,
        reasoning_tokens  INTEGER,
        raw_usage         TEXT,             -- JSON, the service's own object
        cost_usd          REAL,
        attempts          INTEGER NOT NULL,
        duration_s        REAL NOT NULL,
        completed_at      TEXT NOT NULL     -- UTC, ISO 8601
    );

    -- Outcomes that another prompt, another setting or a new try replaced: what was paid for is not thrown away.
    CREATE TABLE superseded AS SELECT * FROM outcomes;
    """,
    """
    -- What was made at services and may have to be deleted: see `batchrun.journal.created`.
    CREATE TABLE created (
        id         TEXT PRIMARY KEY,
        kind       TEXT NOT NULL,
        place      TEXT NOT NULL,           -- URL of the service, or `embedded`
        row_key    TEXT,                    -- NULL: made for the whole batch
        deleted_at TEXT                     -- UTC, ISO 8601; NULL while it is there, as far as is known
    ) WITHOUT ROWID;
    CREATE INDEX created_by_row ON created (row_key);
    """,
)
