"""The stored objects of the protocol: creation, retrieval, pages of lists, changes and removal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from batchrun.server.errors import ApiError, no_such
from batchrun.server.replies.encoding import dumps, loads

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from batchrun.server.protocol.bodies import Body
    from batchrun.server.store.hidden import (
        CompletionHidden,
        ResponseHidden,
        RunHidden,
        ServiceBatchHidden,
        StepHidden,
        UploadHidden,
    )
    from batchrun.server.store.kinds import BodyT, Kind

__all__ = ["Objects", "Page"]


@dataclass(frozen=True, slots=True)
class Page:
    """The requested part of a list.

    Attributes:
        limit: maximum of objects to return.
        order: `desc` is newest first.
        after, before: ids that bound the page and are not part of it; None for no bound.
    """

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None


class Objects:
    """The `objects` table.

    Methods that serve clients take the owner; the few methods without one are for the server's own work.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def add(
        self,
        kind: Kind[BodyT],
        owner: str,
        body: BodyT,
        *,
        key: str | None = None,
        parent: str = "",
        run: str | None = None,
        status: str | None = None,
        active: bool = False,
        hidden: Mapping[str, object] | None = None,
        text: str | None = None,
    ) -> None:
        """Append an object as the newest of its list.

        Args:
            key: the key of the object; None for its id. A file has the same id in every vector store that holds it.
            text: the body as JSON text, if the caller has it already.
        """
        self._execute(
            "INSERT INTO objects (id, kind, owner, parent, run, status, active, body, hidden)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            (
                key or body["id"],
                kind.name,
                owner,
                parent,
                run,
                status,
                active,
                text or dumps(body),
                None if hidden is None else dumps(hidden),
            ),
        )

    def find(self, kind: Kind[BodyT], owner: str, object_id: str, *, parent: str | None = None) -> BodyT | None:
        """Return the object as clients see it, or None."""
        row = self._execute(
            "SELECT body, parent FROM objects WHERE id = ? AND kind = ? AND owner = ?", (object_id, kind.name, owner)
        ).fetchone()
        if row is None or (parent is not None and row[1] != parent):
            return None
        body: BodyT = loads(row[0])
        return body

    def get(
        self, kind: Kind[BodyT], owner: str, object_id: str, *, parent: str | None = None, noun: str | None = None
    ) -> BodyT:
        """Return the object as clients see it.

        Raises:
            ApiError: 404 `No <noun> found with id '…'.`
        """
        body = self.find(kind, owner, object_id, parent=parent)
        if body is None:
            raise no_such(noun or kind.name, object_id)
        return body

    def text(self, object_id: str) -> str:
        """Return the JSON text of an existing object."""
        row = self._execute("SELECT body FROM objects WHERE id = ?", (object_id,)).fetchone()
        return str(row[0])

    def result(self, object_id: str) -> str | None:
        """Return the JSON text of a stored response's or chat completion's result; None if it was removed."""
        row = self._execute("SELECT kind, body FROM objects WHERE id = ?", (object_id,)).fetchone()
        if row is None:
            return None
        result: str = loads(row[1])["result"] if row[0] == "completion" else row[1]
        return result

    def run_hidden(self, run_id: str) -> RunHidden:
        """Return the hidden part of a run; {} if there is none."""
        hidden: RunHidden = self._hidden(run_id)
        return hidden

    def step_hidden(self, step_id: str) -> StepHidden:
        """Return the hidden part of a step; {} if there is none."""
        hidden: StepHidden = self._hidden(step_id)
        return hidden

    def response_hidden(self, response_id: str) -> ResponseHidden:
        """Return the hidden part of a response that exists."""
        hidden: ResponseHidden = self._hidden(response_id)
        return hidden

    def service_batch_hidden(self, batch_id: str) -> ServiceBatchHidden:
        """Return the hidden part of a service batch that exists."""
        hidden: ServiceBatchHidden = self._hidden(batch_id)
        return hidden

    def completion_hidden(self, key: str) -> CompletionHidden:
        """Return the hidden part of a stored chat completion that exists."""
        hidden: CompletionHidden = self._hidden(key)
        return hidden

    def upload_hidden(self, upload_id: str) -> UploadHidden:
        """Return the hidden part of an upload that exists."""
        hidden: UploadHidden = self._hidden(upload_id)
        return hidden

    def _hidden(self, object_id: str) -> Any:
        row = self._execute("SELECT hidden FROM objects WHERE id = ?", (object_id,)).fetchone()
        return loads(row[0]) if row is not None and row[0] is not None else {}

    def owner(self, object_id: str) -> str | None:
        """Return the owner of an object; None if there is no such object."""
        row = self._execute("SELECT owner FROM objects WHERE id = ?", (object_id,)).fetchone()
        return None if row is None else str(row[0])

    def save(
        self,
        body: Mapping[str, Any],
        *,
        key: str | None = None,
        status: str | None = None,
        active: bool = False,
        hidden: Mapping[str, object] | None = None,
        text: str | None = None,
    ) -> None:
        """Replace an object's body, status and lock, and its hidden part if one is given.

        Args:
            text: the body as JSON text, if the caller has it already.
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

    def remove_children(self, owner: str, kind: Kind[Any], parent: str) -> None:
        """Remove all objects of a kind below `parent`."""
        self._execute("DELETE FROM objects WHERE owner = ? AND kind = ? AND parent = ?", (owner, kind.name, parent))

    def children(self, owner: str, kind: Kind[BodyT], parent: str, *, run: str | None = None) -> list[BodyT]:
        """Return all objects of a kind below `parent`, or those of one run or file batch, oldest first."""
        where, more = ("", ()) if run is None else (" AND run = ?", (run,))
        rows = self._execute(
            f"SELECT body FROM objects WHERE owner = ? AND kind = ? AND parent = ?{where} ORDER BY seq",
            (owner, kind.name, parent, *more),
        )
        return [loads(body) for (body,) in rows]

    def holders(self, owner: str, kind: Kind[Any], key_pattern: str) -> list[tuple[str, str]]:
        """Return (parent, status) of the objects whose key matches the LIKE pattern."""
        rows = self._execute(
            "SELECT parent, status FROM objects WHERE owner = ? AND kind = ? AND id LIKE ?",
            (owner, kind.name, key_pattern),
        )
        return list(rows)

    def count(self, owner: str, kind: Kind[Any], parent: str, at_most: int) -> int:
        """Return the number of objects of a kind below `parent`, but at most `at_most`."""
        row = self._execute(
            "SELECT count(*) FROM (SELECT 1 FROM objects WHERE owner = ? AND kind = ? AND parent = ? LIMIT ?)",
            (owner, kind.name, parent, at_most),
        ).fetchone()
        return int(row[0])

    def active(self, kind: Kind[BodyT], parent: str | None = None) -> list[tuple[str, BodyT]]:
        """Return (owner, body) of active objects, of one parent or of all, oldest first."""
        where, parameters = ("", [kind.name]) if parent is None else (" AND parent = ?", [kind.name, parent])
        rows = self._execute(
            f"SELECT owner, body FROM objects WHERE active = 1 AND kind = ?{where} ORDER BY seq", parameters
        )
        return [(owner, loads(body)) for owner, body in rows]

    def page(
        self,
        kind: Kind[Any],
        owner: str,
        page: Page,
        *,
        parent: str = "",
        run: str | None = None,
        status: str | None = None,
        noun: str | None = None,
        prefix: str = "",
    ) -> str:
        """Return one page of a list as the JSON text `{object, data, first_id, last_id, has_more}`.

        Args:
            prefix: the part of the keys before the ids that clients see.

        Raises:
            ApiError: 404: `after` or `before` is not the id of an object in this list.
        """
        conditions = ["owner = ?", "kind = ?", "parent = ?"]
        parameters: list[str | int] = [owner, kind.name, parent]
        for column, value in (("run", run), ("status", status)):
            if value is not None:
                conditions.append(f"{column} = ?")
                parameters.append(value)
        ascending = page.order == "asc"
        for cursor, beyond in ((page.after, ascending), (page.before, not ascending)):
            if cursor is not None:
                conditions.append("seq > ?" if beyond else "seq < ?")
                parameters.append(self._position(kind, owner, parent, prefix + cursor, noun or kind.name, cursor))
        # `before` alone requests the page that ends just before the cursor, so it is read from that end.
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

    def _position(self, kind: Kind[Any], owner: str, parent: str, key: str, noun: str, cursor: str) -> int:
        row = self._execute(
            "SELECT seq FROM objects WHERE id = ? AND kind = ? AND owner = ? AND parent = ?",
            (key, kind.name, owner, parent),
        ).fetchone()
        if row is None:
            raise no_such(noun, cursor)
        return int(row[0])


def list_json(bodies: Iterable[str], ids: list[str], more: bool) -> str:
    """Return the JSON text of a list object; the bodies are JSON text already."""
    first, last = (dumps(ids[0]), dumps(ids[-1])) if ids else ("null", "null")
    return (
        f'{{"object":"list","data":[{",".join(bodies)}],"first_id":{first},"last_id":{last},'
        f'"has_more":{"true" if more else "false"}}}'
    )


def page_of(bodies: Sequence[Body], page: Page, noun: str) -> str:
    """Return one page of a list that is in memory, oldest first.

    Raises:
        ApiError: 404: `after` or `before` is not the id of an object in the list.
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


def no_more_than(objects: Objects, owner: str, kind: Kind[Any], parent: str, limit: int, added: int) -> None:
    """Check that `added` more objects do not exceed `limit`.

    Raises:
        ApiError: 400: they do.
    """
    if objects.count(owner, kind, parent, limit + 1) + added > limit:
        raise ApiError(400, f"{parent} cannot hold more than {limit} {kind.name}s.")
