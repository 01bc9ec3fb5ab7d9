"""Removes secrets from messages."""

from __future__ import annotations

__all__ = ["scrubbed"]


def scrubbed(text: str, secrets: tuple[str, ...], *, most_chars: int | None = 2_000) -> str:
    """Return the text with each secret replaced by `***`, cut to `most_chars` characters (None: not cut).

    The secrets are removed before the text is cut: half a key is a leak too.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text[:most_chars]
