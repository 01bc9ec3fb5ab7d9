"""Reads the sources that an answer cites from the replies of each protocol.

A field that is missing or has another type is left out: the answer is complete without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypedDict, cast

from batchrun.records import JsonObject
from batchrun.services.reply_fields import count, mapping, name, objects

__all__ = [
    "Citation",
    "citation_text",
    "citations_of_completion",
    "citations_of_items",
    "citations_of_messages",
    "item_parts",
]


class Citation(TypedDict, total=False):
    """A source that an answer cites: a page or a file. Fields that the service does not give are absent.

    Attributes:
        container_id: the container that holds the file.
        quote: text of the source.
        text: the mark in the response.
        start, end: characters of the response, whose parts are joined by a line break and whose messages by a blank
            line.
    """

    file_id: str
    container_id: str
    filename: str
    quote: str
    text: str
    url: str
    title: str
    start: int
    end: int


def citation_text(citation: JsonObject) -> str:
    """Return the source and the quote of a citation in one line.

    Examples:
        >>> citation_text({"url": "https://example.org", "title": "Stars", "quote": "Vega is bright"})
        'Stars (https://example.org): “Vega is bright”'
    """
    source = next((str(citation[name]) for name in ("filename", "title", "file_id", "url") if citation.get(name)), "?")
    where = f" ({citation['url']})" if citation.get("url") and source != citation["url"] else ""
    quote = f": “{citation['quote']}”" if citation.get("quote") else ""
    return f"{source}{where}{quote}"


def citations_of_messages(
    messages: Iterable[JsonObject], names: Mapping[str, str] | None = None, *, with_files: bool = False
) -> list[Citation]:
    """Return the citations in the messages of a run, in the order of the text.

    Files have `file_id`, `text`, `start` and `end`, and also `filename` and `quote` if they are known. Pages have `url`
    and `title` instead of `file_id`.

    Args:
        messages: the messages of the Assistants protocol that make up the response.
        names: file id → name.
        with_files: list the files that the run created, too, because nothing downloads them.
    """
    kinds = ("file_citation", "url_citation", "file_path") if with_files else ("file_citation", "url_citation")
    found: list[Citation] = []
    for offset, part in _message_parts(messages):
        for each in objects(part.get("annotations")):
            kind = name(each.get("type"))
            cited = each.get(kind) if kind is not None and kind in kinds else None
            if not isinstance(cited, Mapping):
                continue
            file_id = name(cited.get("file_id"))
            found.append(
                _compact(
                    file_id=file_id,
                    filename=(names or {}).get(str(file_id)),
                    quote=name(cited.get("quote")),
                    text=name(each.get("text")),
                    url=name(cited.get("url")),
                    title=name(cited.get("title")),
                    start=_shifted(each.get("start_index"), offset),
                    end=_shifted(each.get("end_index"), offset),
                )
            )
    return found


def citations_of_items(items: Iterable[JsonObject], *, with_files: bool = False) -> list[Citation]:
    """Return the citations in the messages among a response's output items, then the results of searches.

    Files have `file_id`, `filename` and `start`, the character after which the citation belongs. Pages have `url`,
    `title`, `start` and `end`. Results of searches (Perplexity) have `url`, `title` and `quote`.

    Args:
        with_files: list the files that the response created, too, because nothing downloads them.
    """
    items = list(items)
    found: list[Citation] = []
    for offset, part in item_parts(items):
        for each in objects(part.get("annotations")):
            kind = each.get("type")
            if kind == "url_citation":
                found.append(_page(each, offset))
            elif kind == "file_citation" or (with_files and kind in ("file_path", "container_file_citation")):
                found.append(
                    _compact(
                        file_id=name(each.get("file_id")),
                        container_id=name(each.get("container_id")),
                        filename=name(each.get("filename")),
                        start=_shifted(each.get("index", each.get("start_index")), offset),
                        end=_shifted(each.get("end_index"), offset),
                    )
                )
    for item in items:
        if item.get("type") == "search_results":
            _add_new(found, map(_page_of_search, objects(item.get("results"))))
    return found


def citations_of_completion(annotations: Iterable[JsonObject], sources: JsonObject, cut: int = 0) -> list[Citation]:
    """Return the sources of a chat completion, each page once if it comes in several forms.

    Args:
        annotations: of the message, as OpenAI and OpenRouter send them.
        sources: `citations` (URLs) and `search_results` of the completion (Perplexity, xAI), and the `context` of its
            message (Azure's own data), each if there is any.
        cut: characters before the answer that were removed from the text.
    """
    found: list[Citation] = []
    for each in annotations:
        inner = each.get("url_citation")
        if isinstance(inner, Mapping):
            found.append(_page(inner, -cut))
        elif each.get("type") == "url_citation":
            found.append(_page(each, -cut))
    results = [_page_of_search(each) for each in objects(sources.get("search_results"))]
    by_url = {each["url"]: each for each in results if "url" in each}
    urls = sources.get("citations")
    listed = urls if isinstance(urls, list) else []
    # The answer's marks [1], [2] count the URLs, so the URLs keep their order and their repetitions.
    numbered = [by_url.get(url, _compact(url=url)) for each in listed if (url := name(each)) is not None]
    if not found:
        found = list(numbered)
    _add_new(found, [*numbered, *results])
    _add_new(found, map(_page_of_own_data, objects(mapping(sources.get("context")).get("citations"))))
    return found


def _add_new(found: list[Citation], more: Iterable[Citation]) -> None:
    """Add the citations whose page is not listed yet."""
    known = {each["url"] for each in found if "url" in each}
    for each in more:
        url = each.get("url")
        if each and (url is None or url not in known):
            found.append(each)
            known |= {url} if url is not None else set()


def _page(cited: JsonObject, offset: int) -> Citation:
    return _compact(
        url=name(cited.get("url")),
        title=name(cited.get("title")),
        quote=name(cited.get("content")),
        start=_shifted(cited.get("start_index"), offset),
        end=_shifted(cited.get("end_index"), offset),
    )


def _page_of_search(result: JsonObject) -> Citation:
    return _compact(url=name(result.get("url")), title=name(result.get("title")), quote=name(result.get("snippet")))


def _page_of_own_data(cited: JsonObject) -> Citation:
    return _compact(
        url=name(cited.get("url")),
        title=name(cited.get("title")),
        filename=name(cited.get("filepath")),
        quote=name(cited.get("content")),
    )


def _compact(**fields: str | int | None) -> Citation:
    return cast("Citation", {field: value for field, value in fields.items() if value is not None})


def _shifted(index: object, offset: int) -> int | None:
    known = count(index)
    return max(0, known + offset) if known is not None else None


def _message_parts(messages: Iterable[JsonObject]) -> Iterator[tuple[int, JsonObject]]:
    """Yield (offset of the part in the response, `text` of the part); joined as `message_text` joins them."""
    offset = 0
    for message in messages:
        begun = offset
        for part in objects(message.get("content")):
            text = part.get("text")
            if part.get("type") == "text" and isinstance(text, dict):
                yield offset, text
                offset += len(name(text.get("value")) or "") + 1
            elif part.get("type") == "refusal":
                offset += len(name(part.get("refusal")) or "") + 1
            elif part.get("type") == "image_file":
                offset += len(f"[image {name(mapping(part.get('image_file')).get('file_id'))}]") + 1
        offset += 1 if offset > begun else 2


def item_parts(items: Iterable[JsonObject]) -> Iterator[tuple[int, JsonObject]]:
    """Yield (offset of the part in the response, the part); joined as the Responses service does: no empty messages."""
    offset = 0
    for item in items:
        if item.get("type") != "message":
            continue
        parts = [part for part in objects(item.get("content")) if part.get("type") in ("output_text", "refusal")]
        begun = offset
        for part in parts:
            yield offset, part
            offset += len(name(part.get("text")) or name(part.get("refusal")) or "") + 1
        offset = offset + 1 if offset - begun > 1 else begun
