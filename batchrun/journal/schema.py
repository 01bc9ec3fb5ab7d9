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
    -- What was made at services and may have to be deleted: see `batchrun.journal.created_objects`.
    CREATE TABLE created (
        id         TEXT PRIMARY KEY,
        kind       TEXT NOT NULL,
        place      TEXT NOT NULL,           -- URL of the service, or `embedded`
        row_key    TEXT,                    -- NULL: made for the whole batch
        deleted_at TEXT                     -- UTC, ISO 8601; NULL while it is there, as far as is known
    ) WITHOUT ROWID;
    CREATE INDEX created_by_row ON created (row_key);
    """,
    """
    ALTER TABLE attempts ADD COLUMN turn INTEGER NOT NULL DEFAULT 1;   -- from 1

    -- What an outcome has beside its text: citations, files, calls of functions. JSON, NULL where there is nothing.
    ALTER TABLE outcomes ADD COLUMN extras TEXT;
    ALTER TABLE superseded ADD COLUMN extras TEXT;

    -- Of rows that are more than one question: every run that ended, so that none is paid for twice.
    CREATE TABLE exchanges (
        row_key           TEXT NOT NULL,
        fingerprint       TEXT NOT NULL,     -- with `/` and the try's number behind it: a turn that this try asks anew
        number            INTEGER NOT NULL,  -- from 1
        turn              INTEGER NOT NULL,  -- from 1; the same again for a round of tools, or a correction
        attempt           INTEGER NOT NULL,  -- the try that it ended
        asked             TEXT NOT NULL,     -- the user message, or the outputs of functions
        status            TEXT NOT NULL,
        response          TEXT NOT NULL,
        reason            TEXT,
        thread_id         TEXT,
        run_id            TEXT,
        model             TEXT,
        prompt_tokens     INTEGER,
        completion_tokens INTEGER,
        total_tokens      INTEGER,
        cached_tokens     INTEGER,
        reasoning_tokens  INTEGER,
        raw_usage         TEXT,              -- JSON, the service's own object
        extras            TEXT,              -- JSON, as in outcomes
        calls             TEXT,              -- JSON: the functions that it asked for
        said              TEXT,              -- JSON: the message list so far, where the service keeps no thread
        PRIMARY KEY (row_key, fingerprint, number)
    ) WITHOUT ROWID;

    -- Files that were uploaded, by their content.
    CREATE TABLE uploads (
        place   TEXT NOT NULL,              -- URL of the service, or `embedded`
        purpose TEXT NOT NULL,
        sha256  TEXT NOT NULL,              -- of the content, hex
        file_id TEXT NOT NULL,
        PRIMARY KEY (place, purpose, sha256)
    ) WITHOUT ROWID;

    -- When nobody sent anything, since the service had refused or was about to.
    CREATE TABLE cool_downs (
        started_at TEXT NOT NULL,           -- UTC, ISO 8601
        wait_s     REAL NOT NULL,
        reason     TEXT NOT NULL
    );

    -- Rows that ask what another row asks already.
    CREATE TABLE duplicates (
        row_key     TEXT PRIMARY KEY,
        fingerprint TEXT NOT NULL,
        first_key   TEXT NOT NULL           -- the row that is asked
    ) WITHOUT ROWID;
    """,
    """
    -- What functions returned: a batch that goes on calls none again, and tells the model what it was told before.
    CREATE TABLE outputs (
        row_key     TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        turn        INTEGER NOT NULL,       -- from 1
        run         TEXT NOT NULL,          -- that asked for it: its id where it waits, else its number in exchanges
        position    INTEGER NOT NULL,       -- among the calls made together, from 0
        call_id     TEXT NOT NULL,
        output      TEXT NOT NULL,
        failed      INTEGER NOT NULL,
        PRIMARY KEY (row_key, fingerprint, run, call_id, position)
    ) WITHOUT ROWID;
    """,
    """
    -- 1: the service may have acted on the request of this try, and its answer was not seen. NULL while the try has not
    -- ended, and for tries of earlier versions.
    ALTER TABLE attempts ADD COLUMN unseen INTEGER;
    """,
)
