"""Object ids: a prefix for the kind, and 24 random characters that nobody can guess."""

from __future__ import annotations

import secrets
from typing import Literal

__all__ = ["Prefix", "new_id", "new_item_id", "response_of_item"]

Prefix = Literal[
    "asst_", "thread_", "msg_", "run_", "step_", "call_", "file-", "vs_", "vsfb_", "resp_", "conv_", "chatcmpl-",
    "fc_", "fs_", "ci_", "rs_", "ctc_", "item_", "cntr_", "req_", "batch_", "batch_req_", "upload_", "part_",
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


def new_item_id(prefix: Prefix, response_id: str, number: int) -> str:
    """Return the id of an item of a response, unique by its number. It contains the response's id, see below."""
    return f"{prefix}{response_id.removeprefix('resp_')}{number:04d}"


def response_of_item(item_id: str) -> str:
    """Return the id of the response to which an item with this id would belong."""
    return f"resp_{item_id.partition('_')[2][:_LENGTH]}"
