"""The tables of the file, as ordered steps from one version to the next.

`objects` holds every object of the protocol as the JSON text that clients see, and the few columns that queries need.
`seq` orders objects with the same `created_at`, which counts whole seconds.
"""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "STEPS"]

APPLICATION_ID = 0x62_72_73_76
"""SQLite's `application_id` of the server's files ("brsv"). A database of another program is refused, not altered."""

STEPS: tuple[str, ...] = (
    """
    CREATE TABLE objects (
        seq    INTEGER PRIMARY KEY AUTOINCREMENT,
        id     TEXT NOT NULL UNIQUE,
        kind   TEXT NOT NULL,
        owner  TEXT NOT NULL,               -- hash of the API key, '' where the server asks for none
        parent TEXT NOT NULL DEFAULT '',    -- thread of messages and runs, run of steps, store of its files
        run    TEXT,                        -- run that wrote a message, batch that added a file, purpose of a file
        status TEXT,
        active INTEGER NOT NULL DEFAULT 0,  -- 1: holds a lock, has to be finished after a restart
        body   TEXT NOT NULL,               -- JSON, as clients see it
        hidden TEXT                         -- JSON, what only the server needs
    ) STRICT;
    CREATE INDEX objects_in_order ON objects (owner, kind, parent, seq);
    CREATE INDEX objects_active ON objects (kind, parent) WHERE active = 1;

    CREATE TABLE replies (
        owner   TEXT NOT NULL,
        key     TEXT NOT NULL,
        digest  BLOB NOT NULL,              -- SHA-256 of method, path and body
        status  INTEGER NOT NULL,
        body    TEXT,                       -- the JSON answered, NULL for a stream
        stream  TEXT,                       -- whose events were streamed
        segment INTEGER,
        created REAL NOT NULL,
        PRIMARY KEY (owner, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX replies_by_stream ON replies (stream) WHERE stream IS NOT NULL;
    CREATE INDEX replies_by_age ON replies (created);

    CREATE TABLE events (
        stream  TEXT NOT NULL,              -- run or response
        segment INTEGER NOT NULL,           -- 0, and one more for each submission of tool outputs
        frames  BLOB NOT NULL,              -- zlib of the frames, each ended by an empty line
        created REAL NOT NULL,
        PRIMARY KEY (stream, segment)
    ) STRICT;
    CREATE INDEX events_by_age ON events (created);

    CREATE TABLE blobs (
        id   TEXT PRIMARY KEY,
        data BLOB NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE request_lines (            -- of service batches that have not ended
        batch     TEXT NOT NULL,
        number    INTEGER NOT NULL,         -- line of the input file, from 1
        custom_id TEXT NOT NULL,
        body      TEXT NOT NULL,            -- JSON, the body of the request
        reply     TEXT,                     -- id of the response that answers it, NULL for a completion
        result    TEXT,                     -- the result line, without its line break
        is_answer INTEGER,                  -- 1: the result belongs to the output file, 0: to the error file
        PRIMARY KEY (batch, number),
        UNIQUE (batch, custom_id)
    ) STRICT;
    """,
)
