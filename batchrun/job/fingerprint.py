"""The settings that decide answers, and their digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields

from batchrun.job.options import Job
from batchrun.records import JsonDict

__all__ = ["digest", "settings_of"]


def settings_of(job: Job) -> JsonDict:
    """Return the options that decide answers and are set, by name. The journal compares them between runs.

    A number that is 0, such as a temperature, is set; a switch that is off is not.
    """
    named = ((f.name, getattr(job, f.name)) for f in fields(Job) if f.metadata["option"].decides_answer)
    return {
        name: value
        for name, value in named
        if value is not False and value not in (None, {}, []) and (name, value) != ("epochs", 1)
    }


def digest(*parts: object) -> str:
    """Return a hash (32 hex digits) of JSON values, which is the same in all processes and versions."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
