"""Every object of the protocol: created, read, listed in pages, changed, removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from batchrun.server.errors import ApiError, no_such
from batchrun.server.replies.encoding import dumps, loads

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Kind", "Objects", "Page"]

Kind: TypeAlias = Literal[
    "assistant", "thread", "message", "run", "step", "file", "vector_store", "vector_store_file", "file_batch",
    "response", "unstored_response", "conversation", "item", "completion",
]  # fmt: skip

Body: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted.

    Attributes:
        limit: most objects to return.
        order: `desc` is newest first.
        after, before: ids that bound the page, themselves excluded.
    """

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None


class Objects:
    """The `objects` table.

    Reading and changing take the owner; the few methods without one serve the server's own work.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def add(
        self,
        kind: Kind,
        owner: str,
        body: Body,
        *,
        key: str | None = None,
        parent: str = "",
        run: str | None = None,
        status: str | None = None,
        active: bool = False,
        hidden: Mapping[str, Any] | None = None,
        text: str | None = None,
    ) -> None:
        """Append an object; it is the newest of its list from now on.

        Args:
            text: the body as JSON, where the caller has it already.
            key: what finds it, where that is not its id (a file has one id in all stores that hold it).
        """
        self._execute(
            "INSERT INTO objects (id, kind, owner, parent, run, status, active, body, hidden)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            (
                key or body["id"], kind, owner, parent, run, status, active, text or dumps(body),
                None if hidden is None else dumps(hidden),
            ),
        )  # fmt: skip

    def find(self, kind: Kind, owner: str, object_id: str, *, parent: str | None = None) -> Body | None:
        """The object as clients see it, or None."""
        row = self._execute(
            "SELECT body, parent FROM objects WHERE id = ? AND kind = ? AND owner = ?", (object_id, kind, owner)
        ).fetchone()
        if row is None or (parent is not None and row[1] != parent):
            return None
        body: Body = loads(row[0])
        return body

    def get(
        self, kind: Kind, owner: str, object_id: str, *, parent: str | None = None, noun: str | None = None
    ) -> Body:
        """The object as clients see it.

        Raises:
            ApiError: 404 `No <noun> found with id '…'.`
        """
        body = self.find(kind, owner, object_id, parent=parent)
        if body is None:
            raise no_such(noun or kind, object_id)
        return body

    def text(self, object_id: str) -> str:
        """The JSON text of an object that exists."""
        row = self._execute("SELECT body FROM objects WHERE id = ?", (object_id,)).fetchone()
        return str(row[0])

    def result(self, object_id: str) -> str | None:
        """The JSON text that a kept response or chat completion came to."""
        row = self._execute("SELECT kind, body FROM objects WHERE id = ?", (object_id,)).fetchone()
        if row is None:
            return None
        result: str = loads(row[1])["result"] if row[0] == "completion" else row[1]
        return result

    def hidden(self, object_id: str) -> Body:
        """What only the server knows of an object; {} where there is nothing."""
        row = self._execute("SELECT hidden FROM objects WHERE id = ?", (object_id,)).fetchone()
        return loads(row[0]) if row is not None and row[0] is not None else {}

    def owner(self, object_id: str) -> str | None:
        """Whose object it is; None where there is no such object."""
        row = self._execute("SELECT owner FROM objects WHERE id = ?", (object_id,)).fetchone()
        return None if row is None else str(row[0])

    def save(
        self,
        body: Body,
        *,
        key: str | None = None,
        status: str | None = None,
        active: bool = False,
        hidden: Mapping[str, Any] | None = None,
        text: str | None = None,
    ) -> None:
        """Replace an object's body, status and lock; `hidden` only where it is given.

        Args:
            text: the body as JSON, where the caller has it already.
        """
        text = text or dumps(body)
        if hidden is None:
            self._execute(
                "UPDATE objects SET body = ?, status = ?, active = ? WHERE id = ?",
                (text, status, active, key or body["id"]),
            )
        else:
            self._execute(
                "UPDATE objects SET body = ?, status = ?, active = ?, hidden = ? WHERE id = ?",
                (text, status, active, dumps(hidden), key or body["id"]),
            )

    def remove(self, object_id: str) -> None:
        """Remove one object."""
        self._execute("DELETE FROM objects WHERE id = ?", (object_id,))

    def remove_children(self, owner: str, kind: Kind, parent: str) -> None:
        """Remove all objects of a kind below `parent`."""
        self._execute("DELETE FROM objects WHERE owner = ? AND kind = ? AND parent = ?", (owner, kind, parent))

    def children(self, owner: str, kind: Kind, parent: str, *, run: str | None = None) -> list[Body]:
        """All objects of a kind below `parent` (of one run or batch), oldest first."""
        where, more = ("", ()) if run is None else (" AND run = ?", (run,))
        rows = self._execute(
            f"SELECT body FROM objects WHERE owner = ? AND kind = ? AND parent = ?{where} ORDER BY seq",
            (owner, kind, parent, *more),
        )
        return [loads(body) for (body,) in rows]

    def holders(self, owner: str, kind: Kind, key_pattern: str) -> list[tuple[str, str]]:
        """(parent, status) of the objects whose key is like the pattern."""
        rows = self._execute(
            "SELECT parent, status FROM objects WHERE owner = ? AND kind = ? AND id LIKE ?", (owner, kind, key_pattern)
        )
        return list(rows)

    def count(self, owner: str, kind: Kind, parent: str, at_most: int) -> int:
        """How many there are, counting no further than `at_most`."""
        row = self._execute(
            "SELECT count(*) FROM (SELECT 1 FROM objects WHERE owner = ? AND kind = ? AND parent = ? LIMIT ?)",
            (owner, kind, parent, at_most),
        ).fetchone()
        return int(row[0])

    def active(self, kind: Kind, parent: str | None = None) -> list[tuple[str, Body]]:
        """(owner, body) of active objects, oldest first: those of one parent, or all."""
        where, parameters = ("", [kind]) if parent is None else (" AND parent = ?", [kind, parent])
        rows = self._execute(
            f"SELECT owner, body FROM objects WHERE active = 1 AND kind = ?{where} ORDER BY seq", parameters
        )
        return [(owner, loads(body)) for owner, body in rows]

    def page(
        self,
        kind: Kind,
        owner: str,
        page: Page,
        *,
        parent: str = "",
        run: str | None = None,
        status: str | None = None,
        noun: str | None = None,
        prefix: str = "",
    ) -> str:
        """One page of a list as its JSON text `{object, data, first_id, last_id, has_more}`.

        Args:
            prefix: what keys have before the ids that clients see.

        Raises:
            ApiError: 404 where `after` or `before` name no object of this list.
        """
        conditions = ["owner = ?", "kind = ?", "parent = ?"]
        parameters: list[str | int] = [owner, kind, parent]
        for column, value in (("run", run), ("status", status)):
            if value is not None:
                conditions.append(f"{column} = ?")
                parameters.append(value)
        ascending = page.order == "asc"
        for cursor, beyond in ((page.after, ascending), (page.before, not ascending)):
            if cursor is not None:
                conditions.append("seq > ?" if beyond else "seq < ?")
                parameters.append(self._position(kind, owner, parent, prefix + cursor, noun or kind, cursor))
        # `before` alone means the page that ends just before the cursor, so it is read from that end.
        from_cursor = page.before is not None and page.after is None
        direction = "ASC" if ascending != from_cursor else "DESC"
        rows = self._execute(
            f"SELECT id, body FROM objects WHERE {' AND '.join(conditions)} ORDER BY seq {direction} LIMIT ?",
            [*parameters, page.limit + 1],
        ).fetchall()
        more = len(rows) > page.limit
        rows = rows[: page.limit]
        if from_cursor:
            rows.reverse()
        return list_json([body for _, body in rows], [object_id.removeprefix(prefix) for object_id, _ in rows], more)

    def _position(self, kind: Kind, owner: str, parent: str, key: str, noun: str, cursor: str) -> int:
        row = self._execute(
            "SELECT seq FROM objects WHERE id = ? AND kind = ? AND owner = ? AND parent = ?",
            (key, kind, owner, parent),
        ).fetchone()
        if row is None:
            raise no_such(noun, cursor)
        return int(row[0])


def list_json(bodies: Iterable[str], ids: list[str], more: bool) -> str:
    """A list object around bodies that are JSON already."""
    first, last = (dumps(ids[0]), dumps(ids[-1])) if ids else ("null", "null")
    return (
        f'{{"object":"list","data":[{",".join(bodies)}],"first_id":{first},"last_id":{last},'
        f'"has_more":{"true" if more else "false"}}}'
    )


def page_of(bodies: Sequence[Body], page: Page, noun: str) -> str:
    """One page of a list that is in memory, oldest first.

    Raises:
        ApiError: 404 where `after` or `before` name nothing in it.
    """
    ordered = list(bodies) if page.order == "asc" else list(reversed(bodies))
    ids = [body["id"] for body in ordered]
    first, last = 0, len(ids)
    for cursor in (page.after, page.before):
        if cursor is not None and cursor not in ids:
            raise no_such(noun, cursor)
    if page.after is not None:
        first = ids.index(page.after) + 1
    if page.before is not None:
        last = ids.index(page.before)
    wanted = ordered[first:last]
    if page.before is not None and page.after is None:
        part, more = wanted[-page.limit :], len(wanted) > page.limit
    else:
        part, more = wanted[: page.limit], len(wanted) > page.limit
    return list_json([dumps(body) for body in part], [body["id"] for body in part], more)


def no_more_than(objects: Objects, owner: str, kind: Kind, parent: str, limit: int, added: int) -> None:
    """Refuse to add `added` objects where that would make more than `limit`.

    Raises:
        ApiError: 400.
    """
    if objects.count(owner, kind, parent, limit + 1) + added > limit:
        raise ApiError(400, f"{parent} cannot hold more than {limit} {kind}s.")
