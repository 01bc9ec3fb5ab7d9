"""Citations in answers: the marks of search results, such as `【0:1†name】`, and the links to produced files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batchrun.server.protocol.bodies import Body

__all__ = ["MarkReader", "citations", "links"]

_MARK = re.compile(r"【(\d{1,6}):(\d{1,6})†[^【】]*】")
_MAX_MARK = 400
"""Characters of a mark: two numbers and a file's name."""


def links(text: str, paths: Mapping[str, str]) -> Iterator[tuple[re.Match[str], str]]:
    """Yield (match, file id) for every link to a produced file."""
    for path, file_id in paths.items():
        for match in re.finditer(re.escape(path), text):
            yield match, file_id


def citations(text: str, sources: dict[str, str], paths: dict[str, str]) -> list[Body]:
    """Return annotations for the marks of search results and the links to produced files in an answer's text.

    A mark that does not belong to a result stays plain text. Indexes count characters.
    """
    found: list[Body] = []
    for match in _MARK.finditer(text):
        file_id = sources.get(f"{match[1]}:{match[2]}")
        if file_id is not None:
            found.append(
                {
                    "type": "file_citation",
                    "text": match[0],
                    "start_index": match.start(),
                    "end_index": match.end(),
                    "file_citation": {"file_id": file_id},
                }
            )
    found += [
        {
            "type": "file_path",
            "text": match[0],
            "start_index": match.start(),
            "end_index": match.end(),
            "file_path": {"file_id": file_id},
        }
        for match, file_id in links(text, paths)
    ]
    return sorted(found, key=lambda each: each["start_index"])


class MarkReader:
    """Takes the marks of search results out of a text that arrives in pieces, as Responses reports them.

    A mark that does not belong to a result stays plain text.

    Mutable state: the end of the text that may be the beginning of a mark.
    """

    def __init__(self) -> None:
        self._held = ""

    def take(self, piece: str, sources: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
        """Yield (text, file id): the text before a mark with its file; at the end the other text, with None."""
        text = self._held + piece
        position = 0
        for match in _MARK.finditer(text):
            file_id = sources.get(f"{match[1]}:{match[2]}")
            if file_id is not None:
                yield text[position : match.start()], file_id
                position = match.end()
        begun = text.rfind("【", position)
        is_open = begun >= 0 and "】" not in text[begun:] and len(text) - begun <= _MAX_MARK
        end = begun if is_open else len(text)
        self._held = text[end:]
        yield text[position:end], None

    def rest(self) -> str:
        """Return the text that was held back, at the end of an answer."""
        rest, self._held = self._held, ""
        return rest
