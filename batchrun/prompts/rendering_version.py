"""How a version renders prompts, so that answers in the journals of other versions are found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache

from batchrun.job.fingerprint import digest
from batchrun.prompts.combinations import combinations_of
from batchrun.prompts.templates import Prompter, prompter_for
from batchrun.records import Manifest, Row, Settings, Value

__all__ = ["FIRST_RENDERING", "prompter_of", "rendering_digest"]


FIRST_RENDERING = "f550a9f025e51fe4c3cff03e9b9ffad1"
"""`rendering_digest` of the first versions. They rendered lists as Python does, and their journals have no digest."""


def prompter_of(manifest: Manifest, columns: Sequence[str]) -> Prompter:
    """Return a prompter that gives the same fingerprints as the version that wrote the journal."""
    return prompter_for(
        manifest["settings"],
        columns,
        manifest.get("key"),
        lists_as_python=manifest.get("rendering", FIRST_RENDERING) == FIRST_RENDERING,
        row_settings=manifest.get("row_settings", False),
    )


_SPECIMENS: tuple[tuple[Settings, str | None], ...] = (
    ({"prompt": "{{ text }}{{ row['a b'] }}{{ none }}{{ nan }}"}, None),
    ({"prompt": "{{ int }} {{ float }} {{ small }} {{ large }} {{ yes }} {{ not yes }}", "temperature": 0.5}, None),
    ({"prompt": "{{ list }} {{ object }} {{ list | join('+') }} {{ object.inner[0] }} {{ list | tojson }}"}, None),
    ({"prompt": "{% for each in list %}{{ loop.index }}{{ each | upper }}\n{% endfor %}{{ text | trim }}"}, "text"),
    ({"turns": [{"prompt": "{{ text }}"}, {"prompt": "{{ list }} {{ responses[0] }}", "when": "yes"}]}, "float"),
    ({"prompt": "{{ int }}", "matrix": {"model": ["a", "b"], "param": [{"x": 1}]}, "epochs": 2}, "int"),
    ({"prompt": "{{ int }}", "thread_column": "text", "attach": ["url"]}, None),
    (
        {
            "prompt": "{{ int }}",
            "model": "{{ row['a b'] }}",
            "instructions": "{{ text }}{{ list }}",
            "param": {"x": {"y": ["{{ float }}", "{{ list }}", "{{ text }}!", "z"]}},
        },
        None,
    ),
    ({"messages": "talk", "api": "assistants", "instructions": "a"}, None),
    ({"messages": "talk", "api": "chat", "examples": [["a", "b"]]}, None),
    ({"prompt": "{{ text }}", "examples": [[{"text": "a"}, "b"]]}, None),
)
"""Settings and key columns for `rendering_digest`. Together they use every type of cell and every part of a
fingerprint."""


_SPECIMEN_CELLS: Mapping[str, Value] = {
    "text": " Grüße\n",
    "a b": '"x"',
    "none": None,
    "nan": math.nan,
    "yes": True,
    "url": "https://example.org/a.png",
    "int": 12345678901234567890,
    "float": 0.1,
    "small": 1e-7,
    "large": 1e16,
    "list": ["a", "ß", None, 1.0],
    "object": {"b": True, "inner": [1, {"c": "d"}]},
    "talk": [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "ß"}]}],
}


@cache
def rendering_digest() -> str:
    """Return a hash of the prompts, row keys and fingerprints that this version renders for fixed specimens.

    If it differs from the digest in a journal, another version may have rendered the prompts differently, and answered
    rows may not be recognized.
    """
    rendered = []
    for settings, key in _SPECIMENS:
        prompter = prompter_for(settings, list(_SPECIMEN_CELLS), key)
        for index in range(len(combinations_of(settings))):
            prompt = prompter.render(Row(index, _SPECIMEN_CELLS))
            rendered.append([prompt.row_key, prompt.first.text, prompt.fingerprint])
    return digest(rendered)
