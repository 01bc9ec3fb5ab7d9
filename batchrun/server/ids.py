"""Object ids: a prefix that tells the kind, and 24 random characters that nobody can guess."""

from __future__ import annotations

import secrets
from typing import Literal

__all__ = ["Prefix", "new_id"]

Prefix = Literal[
    "asst_", "thread_", "msg_", "run_", "step_", "call_", "file-", "vs_", "vsfb_", "resp_", "conv_", "chatcmpl-",
    "fc_", "req_",
]  # fmt: skip

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = 24
_SPACE = len(_ALPHABET) ** _LENGTH


def new_id(prefix: Prefix) -> str:
    """A fresh id: `prefix` and 24 characters of base 62 (142 bits) from the system's secure source."""
    number = secrets.randbelow(_SPACE)
    characters = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, 62)
        characters.append(_ALPHABET[digit])
    return prefix + "".join(characters)
