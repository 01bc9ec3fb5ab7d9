"""The hidden parts of stored objects: facts that only the server needs, in the column `hidden`."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from batchrun.server.protocol.bodies import Body

__all__ = [
    "CallFacts",
    "ResponseHidden",
    "RunHidden",
    "ServiceBatchHidden",
    "StepHidden",
    "StoredCall",
    "TokenCountJson",
    "UsableResources",
]


class TokenCountJson(TypedDict):
    """A `TokenCount` as JSON."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int


class UsableResources(TypedDict):
    """The ids of the vector stores and files that a run may use."""

    vector_store_ids: list[str]
    file_ids: list[str]


class RunHidden(TypedDict, total=False):
    """The hidden part of a run.

    Attributes:
        attempt: number of starts of the run, from 1; a restart of the server adds one.
        segment: the current segment of its events, from 0.
        creates_thread: the request that created the run created its thread too.
        resources: those of the assistant, or of the request.
        parameters: further model parameters.
        usage: tokens of all answers so far.
        tool_steps: the run has steps of tools.
        searches: number of file searches so far.
        produced: ids of files that the code interpreter produced.
        with_contents: the events of its searches have the texts of the results.
    """

    attempt: int
    segment: int
    creates_thread: bool
    resources: UsableResources
    parameters: Body
    usage: TokenCountJson
    tool_steps: bool
    searches: int
    produced: list[str]
    with_contents: bool


class CallFacts(TypedDict, total=False):
    """Facts about a call of a hosted tool, for later answers and citations.

    Attributes:
        sources: number of a search result, such as `0:1` → file id.
        contents: the texts of the search results.
        paths: path of a produced file → file id.
    """

    sources: dict[str, str]
    contents: list[str]
    paths: dict[str, str]


class StoredCall(CallFacts):
    """A finished call of a hosted tool."""

    arguments: str
    output: str


class StepHidden(TypedDict, total=False):
    """The hidden part of a step.

    Attributes:
        usage: tokens of the answer that made the calls; for function calls that wait for their outputs.
        calls: call id → finished call of a hosted tool.
    """

    usage: TokenCountJson
    calls: dict[str, StoredCall]


class ResponseHidden(TypedDict):
    """The hidden part of a response.

    Attributes:
        input: its own input items.
        parameters: further model parameters.
        keyed: the request had an idempotency key.
        include: details that the reply contains.
        container: id of the code interpreter's container.
        file_ids: ids of the files in the container.
        details: item id → finished call of a hosted tool, with all details.
    """

    input: list[Body]
    parameters: Body
    keyed: bool
    include: NotRequired[list[str]]
    container: NotRequired[str]
    file_ids: NotRequired[list[str]]
    details: NotRequired[dict[str, Body]]


class ServiceBatchHidden(TypedDict):
    """The hidden part of a service batch.

    Attributes:
        number: its position among the service batches of its owner, from 1.
        file_life_s: seconds after which its result files expire; None for never.
        expired: its completion window ended before all lines had a result.
    """

    number: int
    file_life_s: int | None
    expired: bool


class CompletionHidden(TypedDict):
    """The hidden part of a stored chat completion.

    Attributes:
        messages: those of its request, as they are listed.
    """

    messages: list[Body]


class UploadHidden(TypedDict):
    """The hidden part of an upload.

    Attributes:
        file_life_s: seconds after which the file expires; None for never.
    """

    file_life_s: int | None
