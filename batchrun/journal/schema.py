"""The journal's tables, as ordered steps: step n migrates a file from `user_version` n-1 to n."""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "STEPS"]

APPLICATION_ID = 0x62617472
"""SQLite `application_id` of a journal ("batr"), which distinguishes it from another program's file."""

STEPS: tuple[str, ...] = (
    """
    CREATE TABLE manifest (
        name  TEXT PRIMARY KEY,
        value TEXT NOT NULL                 -- JSON
    ) WITHOUT ROWID;

    -- One row per attempt that may have reached the service. A row with an attempt and no outcome is in flight.
    CREATE TABLE attempts (
        row_key         TEXT NOT NULL,
        number          INTEGER NOT NULL,   -- from 1
        generation      INTEGER NOT NULL,   -- counts the runs, from 1
        idempotency_key TEXT NOT NULL,
        fingerprint     TEXT NOT NULL,
        started_at      TEXT NOT NULL,      -- UTC, ISO 8601
        thread_id       TEXT,               -- as soon as known
        run_id          TEXT,
        run_ended       INTEGER NOT NULL DEFAULT 0,  -- 1: this run failed; the next attempt needs another
        fault_type      TEXT,               -- the fault that ended it, NULL while it runs or if it ended well
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

    -- Outcomes that another prompt, another setting or a new attempt replaced: they were paid for, so they are kept.
    CREATE TABLE superseded AS SELECT * FROM outcomes;
    """,
    """
    -- Objects created at services, which may have to be deleted: see `batchrun.journal.created_objects`.
    CREATE TABLE created (
        id         TEXT PRIMARY KEY,
        kind       TEXT NOT NULL,
        place      TEXT NOT NULL,           -- URL of the service, or `embedded`
        row_key    TEXT,                    -- NULL: created for the whole batch
        deleted_at TEXT                     -- UTC, ISO 8601; NULL until it is known to be deleted
    ) WITHOUT ROWID;
    CREATE INDEX created_by_row ON created (row_key);
    """,
    """
    ALTER TABLE attempts ADD COLUMN turn INTEGER NOT NULL DEFAULT 1;   -- from 1

    -- Extras of an outcome: citations, files, counts of function calls. JSON, NULL if there are none.
    ALTER TABLE outcomes ADD COLUMN extras TEXT;
    ALTER TABLE superseded ADD COLUMN extras TEXT;

    -- For rows that need more than one run: every run that ended, so that none is paid for twice.
    CREATE TABLE exchanges (
        row_key           TEXT NOT NULL,
        fingerprint       TEXT NOT NULL,     -- with `/` and an attempt's number: set aside for that attempt
        number            INTEGER NOT NULL,  -- from 1
        turn              INTEGER NOT NULL,  -- from 1; the same number again for a round of tools or a correction
        attempt           INTEGER NOT NULL,  -- the attempt that it ended
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
        calls             TEXT,              -- JSON: the function calls that it asked for
        said              TEXT,              -- JSON: the messages so far, if the service keeps no thread
        PRIMARY KEY (row_key, fingerprint, number)
    ) WITHOUT ROWID;

    -- Uploaded files, by their content.
    CREATE TABLE uploads (
        place   TEXT NOT NULL,              -- URL of the service, or `embedded`
        purpose TEXT NOT NULL,
        sha256  TEXT NOT NULL,              -- of the content, hex
        file_id TEXT NOT NULL,
        PRIMARY KEY (place, purpose, sha256)
    ) WITHOUT ROWID;

    -- Times in which no row sent requests, because the service had refused them or was about to.
    CREATE TABLE cool_downs (
        started_at TEXT NOT NULL,           -- UTC, ISO 8601
        wait_s     REAL NOT NULL,
        reason     TEXT NOT NULL
    );

    -- Rows that ask the same as another row.
    CREATE TABLE duplicates (
        row_key     TEXT PRIMARY KEY,
        fingerprint TEXT NOT NULL,
        first_key   TEXT NOT NULL           -- the row that is sent
    ) WITHOUT ROWID;
    """,
    """
    -- Outputs of functions: a resumed batch calls none again, and sends the model the same outputs as before.
    CREATE TABLE outputs (
        row_key     TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        turn        INTEGER NOT NULL,       -- from 1
        run         TEXT NOT NULL,          -- that asked for it: its id if it waits, else its number in exchanges
        position    INTEGER NOT NULL,       -- among the calls made together, from 0
        call_id     TEXT NOT NULL,
        output      TEXT NOT NULL,
        failed      INTEGER NOT NULL,
        PRIMARY KEY (row_key, fingerprint, run, call_id, position)
    ) WITHOUT ROWID;
    """,
    """
    -- 1: the service may have acted on the request of this attempt, and its answer was not seen. NULL until the attempt
    -- has ended, and for attempts of earlier versions.
    ALTER TABLE attempts ADD COLUMN unseen INTEGER;
    """,
    """
    -- Batches at the service's Batch API: see `batchrun.journal.service_batches`.
    CREATE TABLE service_batches (
        number         INTEGER PRIMARY KEY,    -- from 1
        place          TEXT NOT NULL,          -- URL of the service, or `embedded`
        endpoint       TEXT NOT NULL,
        model          TEXT,
        lines          INTEGER NOT NULL,
        status         TEXT NOT NULL,          -- the step of its submission, or the service's own word
        since          TEXT NOT NULL,          -- of the status: UTC, ISO 8601
        is_repeat      INTEGER NOT NULL,
        batch_id       TEXT,
        input_file_id  TEXT,
        output_file_id TEXT,
        error_file_id  TEXT,
        created_at     TEXT,                   -- UTC, ISO 8601
        total          INTEGER,                -- the service's counts of lines
        completed      INTEGER,
        failed         INTEGER,
        collected_at   TEXT,                   -- UTC, ISO 8601; NULL until all results are in `request_lines`
        answers        INTEGER NOT NULL DEFAULT 0,
        errors         INTEGER NOT NULL DEFAULT 0,
        unknown        INTEGER NOT NULL DEFAULT 0,
        missing        INTEGER NOT NULL DEFAULT 0,
        lacking        TEXT,                   -- error type of its lines without a result
        reason         TEXT,
        deleted_at     TEXT                    -- of its files: UTC, ISO 8601
    );

    -- The requests of rows, one line each. A line is the last attempt's if its custom id is the run id of that attempt.
    CREATE TABLE request_lines (
        line      INTEGER PRIMARY KEY,
        custom_id TEXT NOT NULL,
        row_key   TEXT NOT NULL,
        attempt   INTEGER NOT NULL,
        endpoint  TEXT NOT NULL,
        model     TEXT,
        batch     INTEGER,                     -- NULL while it waits for a service batch
        request   BLOB,                        -- until it has a result
        result    BLOB,                        -- until its row has taken it
        rank      INTEGER,                     -- of the result: 0 for an error, more for an answer
        taken     INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX request_lines_by_batch ON request_lines (batch) WHERE batch IS NOT NULL;
    """,
    """
    -- 1: the ids of the outcome's last attempt are those of the outcome, and are not in `attempts`.
    ALTER TABLE outcomes ADD COLUMN own_ids INTEGER;
    ALTER TABLE superseded ADD COLUMN own_ids INTEGER;
    """,
    """
    -- Usage of a run that failed and was charged all the same. JSON, NULL for no charge.
    ALTER TABLE attempts ADD COLUMN usage TEXT;
    """,
    """
    -- US dollars reserved for the row when the attempt began, NULL without a budget.
    ALTER TABLE attempts ADD COLUMN reserved_usd REAL;
    CREATE INDEX superseded_by_row ON superseded (row_key);
    """,
)
