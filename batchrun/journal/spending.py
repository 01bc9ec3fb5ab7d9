"""The money that requests may have cost whose price the journal does not know.

Each attempt of a batch with a budget has the money that was reserved for its row. Where nobody knows what an attempt
has cost, that much counts.

What workers on other machines spend is in the journal of the batch some seconds later. So their leader announces a
*ceiling* before it lends money: US dollars that the batch may cost in all until the next announcement. If the leader
is lost, the difference to what the journal knows is *unaccounted*. It counts as spent from then on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from batchrun.journal.database import Database
from batchrun.journal.histories import KEYS_AT_ONCE
from batchrun.journal.part import JournalPart
from batchrun.journal.service_batch_records import CUSTOM_IDS
from batchrun.journal.sums import spent_usd
from batchrun.wording import SHOWN_USD

__all__ = ["Spending"]

_SINCE: Final = 9
"""The first version of the journal with reservations."""
_ANNOUNCED: Final = "announced"
"""The entry of the manifest: `ceiling_usd`, while a leader runs and after it was lost, and `unaccounted_usd`, if there
is any. Without either there is no entry."""
_UNANSWERED: Final = (
    "SELECT total(a.reserved_usd), count(*) FROM attempts AS a WHERE {rows} a.run_id IS NULL "
    "AND CASE WHEN a.fault_type IS NOT NULL THEN coalesce(a.unseen, 0) ELSE "
    "NOT EXISTS (SELECT 1 FROM outcomes AS o WHERE o.row_key = a.row_key AND o.attempts = a.number) "
    "AND NOT EXISTS (SELECT 1 FROM exchanges AS e WHERE e.row_key = a.row_key AND e.attempt = a.number) "
    "AND NOT EXISTS (SELECT 1 FROM superseded AS s WHERE s.row_key = a.row_key AND s.attempts = a.number) END"
)
"""The money of attempts that the service may have acted on, and that left no answer and no id to look it up by."""
_UNPRICED: Final = (
    "SELECT total(a.reserved_usd) FROM attempts AS a JOIN {ledger} AS o "
    "ON o.row_key = a.row_key AND o.attempts = a.number WHERE {rows} a.reserved_usd IS NOT NULL "
    "AND o.cost_usd IS NULL AND (o.status IN ('completed', 'incomplete') "
    f"OR coalesce(a.run_id, o.run_id) NOT GLOB {CUSTOM_IDS} AND NOT (a.run_id IS NULL AND coalesce(a.unseen, 0)))"
)
"""The money of answers without usage, and of runs that failed without usage."""
_HAS_USAGE: Final = "coalesce(json_extract(a.usage, '$[0]') + json_extract(a.usage, '$[1]'), 0) > 0"
_END: Final = "EXISTS (SELECT 1 FROM exchanges AS e WHERE e.row_key = a.row_key AND e.attempt = a.number{which})"
_FAILED_WITHOUT_USAGE: Final = (
    f"coalesce(a.run_ended, 0) AND a.fault_type != 'rate_limit_exceeded' AND NOT {_HAS_USAGE} AND NOT {_END}"
).format(which=" AND e.prompt_tokens IS NOT NULL")
_ENDED_WITHOUT_USAGE: Final = _END.format(which=" AND e.prompt_tokens IS NULL")
_LEDGERS: Final = ("outcomes", "superseded")
_NO_OUTCOME: Final = " AND ".join(
    f"NOT EXISTS (SELECT 1 FROM {ledger} AS o WHERE o.row_key = a.row_key AND {{which}})" for ledger in _LEDGERS
)
_LEFT_OUT: Final = (
    "SELECT total(a.reserved_usd) FROM attempts AS a WHERE {rows} a.reserved_usd IS NOT NULL AND "
    f"(a.run_id NOT GLOB {CUSTOM_IDS} OR a.run_id IS NULL AND (a.usage IS NOT NULL OR {_END.format(which='')})) "
    f"AND (({_FAILED_WITHOUT_USAGE} OR {_ENDED_WITHOUT_USAGE}) "
    f"AND {_NO_OUTCOME.format(which='o.attempts = a.number AND o.cost_usd IS NULL')} "
    "OR a.fingerprint != (SELECT last.fingerprint FROM attempts AS last WHERE last.row_key = a.row_key "
    "ORDER BY last.number DESC LIMIT 1) "
    f"AND {_NO_OUTCOME.format(which='o.attempts >= a.number AND o.fingerprint = a.fingerprint')})"
)
"""The money of runs that the known cost of their row leaves out: those without usage, where other runs of the row have
some, and those for a prompt that the row had before, and that no outcome has."""
_UNSEEN: Final = (_UNANSWERED, _LEFT_OUT, *(_UNPRICED.replace("{ledger}", ledger) for ledger in _LEDGERS))
_IN_FLIGHT: Final = (
    "SELECT a.row_key, a.reserved_usd FROM attempts AS a LEFT JOIN outcomes AS o ON o.row_key = a.row_key "
    "WHERE {rows} a.number > coalesce(o.attempts, 0) AND a.reserved_usd IS NOT NULL "
    "AND a.number = (SELECT max(number) FROM attempts AS same WHERE same.row_key = a.row_key) "
    f"AND CASE WHEN a.run_id IS NOT NULL THEN a.run_id NOT GLOB {CUSTOM_IDS} "
    f"AND NOT (coalesce(a.run_ended, 0) AND NOT {_HAS_USAGE}) "
    "ELSE NOT coalesce(a.unseen, 0) AND EXISTS (SELECT 1 FROM exchanges AS e WHERE e.row_key = a.row_key "
    "AND e.attempt > coalesce(o.attempts, 0) AND (e.attempt = a.number OR a.fault_type IS NOT NULL)) END"
)
"""The rows in flight with a run to follow, or with runs that ended, but for those at the Batch API: a budget reserves
money for these when it begins."""


class Spending(JournalPart):
    """What a budget has to count besides the known costs. The attempts of runs without a budget count nothing."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._database = database
        self._has_reservations = database.version >= _SINCE

    def unseen_usd(self) -> float:
        """Return the US dollars that requests may have cost whose answer was not seen, or came without usage, or is in
        the journal of a worker that was lost."""
        return self._unseen_usd("") + self.unaccounted_usd

    def unanswered(self) -> int:
        """Return the number of requests whose answer was not seen. While the batch runs, those in flight are among
        them."""
        return int(self._read(_UNANSWERED.format(rows=""))[0][1]) if self._has_reservations else 0

    def in_flight_usd(self) -> dict[str, float]:
        """Return row → US dollars reserved for it, for the rows in flight whose cost will be known when they end."""
        return self._in_flight_usd("")

    def unknown_usd(self, row_keys: Sequence[str] | None = None) -> float:
        """Return both together: the US dollars that rows may have cost besides the known costs.

        Args:
            row_keys: None for all rows.
        """
        if row_keys is None:
            return self.unseen_usd() + sum(self.in_flight_usd().values())
        found = 0.0
        for begin in range(0, len(row_keys), KEYS_AT_ONCE):
            keys = tuple(row_keys[begin : begin + KEYS_AT_ONCE])
            rows = f"a.row_key IN ({', '.join('?' * len(keys))}) AND"
            found += self._unseen_usd(rows, keys) + sum(self._in_flight_usd(rows, keys).values())
        return found

    def _unseen_usd(self, rows: str, keys: tuple[str, ...] = ()) -> float:
        if not self._has_reservations:
            return 0.0
        return sum(float(self._read(each.format(rows=rows), keys)[0][0]) for each in _UNSEEN)

    def _in_flight_usd(self, rows: str, keys: tuple[str, ...] = ()) -> dict[str, float]:
        return dict(self._read(_IN_FLIGHT.format(rows=rows), keys)) if self._has_reservations else {}

    # -- what a leader on Ray announces ---------------------------------------------------------------------------

    def _announced(self) -> dict[str, float]:
        found = self._read("SELECT value FROM manifest WHERE name = ?", (_ANNOUNCED,))
        return dict(json.loads(found[0][0])) if found else {}

    @property
    def unaccounted_usd(self) -> float:
        """US dollars that workers on Ray may have spent, and of which no record is left."""
        return self._announced().get("unaccounted_usd", 0.0)

    def unaccounted_notice(self) -> str | None:
        """Return a line for people about the unaccounted money; None if there is none."""
        if (unaccounted_usd := self.unaccounted_usd) < SHOWN_USD:
            return None
        return (
            f"--budget: ${unaccounted_usd:,.4f} counts as spent besides the cost of the answers: workers on Ray may "
            "have spent it, and their journals are lost; a larger --budget makes up for it"
        )

    @staticmethod
    def announcement(*, ceiling_usd: float = 0.0, unaccounted_usd: float) -> str:
        """Return an announcement: the entry of the manifest as JSON."""
        entry = {"ceiling_usd": ceiling_usd, "unaccounted_usd": unaccounted_usd}
        return json.dumps({name: usd for name, usd in entry.items() if usd > 0})

    def announce(self, announcement: str) -> None:
        """Record an announcement in the place of the last one."""
        with self._transaction():
            self._write("DELETE FROM manifest WHERE name = ?", (_ANNOUNCED,))
            if json.loads(announcement):
                self._write("INSERT INTO manifest VALUES (?, ?)", (_ANNOUNCED, announcement))

    def begin_run(self, ceiling_usd: float = 0.0) -> None:
        """Count what an earlier leader has announced, and what the journal does not know as spent, as unaccounted.

        Call it when all journals of its workers that are left have been gathered.

        Args:
            ceiling_usd: of an announcement that the journal does not have.
        """
        before = self._announced()
        if ceiling_usd := max(ceiling_usd, before.get("ceiling_usd", 0.0)):
            # The money of rows in flight that have a run to follow is left out: what they cost is known later.
            known_usd = spent_usd(self._database) + self._unseen_usd("")
            unaccounted_usd = max(before.get("unaccounted_usd", 0.0), ceiling_usd - known_usd)
            self.announce(self.announcement(unaccounted_usd=unaccounted_usd))
