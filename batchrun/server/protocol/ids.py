"""Object ids: a prefix for the kind, and 24 random characters that nobody can guess."""

from __future__ import annotations

import secrets
from typing import Literal

__all__ = ["Prefix", "new_id"]

Prefix = Literal[
    "asst_", "thread_", "msg_", "run_", "step_", "call_", "file-", "vs_", "vsfb_", "resp_", "conv_", "chatcmpl-",
    "fc_", "req_", "batch_", "batch_req_",
]  # fmt: skip

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = 24
# 248 of a byte's 256 values are four times the alphabet and map to it evenly; the other eight are discarded.
_TABLE = bytes(ord(_ALPHABET[value % 62]) for value in range(256))
_DISCARDED = bytes(range(248, 256))


def new_id(prefix: Prefix) -> str:
    """Return a new id: `prefix` and 24 characters of base 62 (142 bits) from the system's secure source."""
    characters = b""
    while len(characters) < _LENGTH:
        characters += secrets.token_bytes(32).translate(_TABLE, _DISCARDED)
    return prefix + characters[:_LENGTH].decode("ascii")
