"""The fingerprint of a prompt: a hash of everything that decides the row's answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import lru_cache

from batchrun.records import RowSettings, Turn, Value

__all__ = ["fingerprint_of", "hashed"]


def fingerprint_of(
    settings_digest: str, first: Turn, later_cells: Sequence[Value], thread_id: str, epoch: int, own: RowSettings | None
) -> str:
    """Return a hash (32 hex digits) of the settings and of everything that is sent.

    Args:
        settings_digest: hash of the settings and later turns that decide answers.
        first: the first turn.
        later_cells: the cells that later turns use; empty without later turns that use any.
        thread_id: the thread that the row continues; empty for a new one.
        epoch: number of the repetition, from 1.
        own: settings of this row only.
    """
    parts = [f"messages {json.dumps(first.messages, sort_keys=True)}" if first.messages else first.text]
    if later_cells:
        parts.append(json.dumps(later_cells, default=str))
    if thread_id:
        parts.append(f"thread {thread_id}")
    parts += [f"attached {attachment.source}" for attachment in first.attachments]
    if epoch > 1:
        parts.append(f"epoch {epoch}")
    if own is not None:
        parts.append("settings " + json.dumps([own.model, own.instructions, own.param], sort_keys=True))
    return hashed(settings_digest, parts)


def hashed(settings_digest: str, parts: Iterable[str]) -> str:
    """Return a hash (32 hex digits) of the settings and the parts of a prompt.

    The length of each part is written before it, so that different parts never give the same bytes.
    """
    whole = _begun(settings_digest).copy()
    for part in parts:
        text = part.encode("utf-8", "surrogatepass")
        whole.update(b"%d:" % len(text))
        whole.update(text)
    return whole.hexdigest()


@lru_cache(maxsize=256)
def _begun(settings_digest: str) -> hashlib.blake2b:
    """Return the hash of the settings, which the rows of a batch share; it is copied, never changed."""
    return hashlib.blake2b(settings_digest.encode(), digest_size=16)
