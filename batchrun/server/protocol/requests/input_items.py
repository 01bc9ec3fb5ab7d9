"""The items of Responses and Conversations that a client may send: what a model reads, and history that it replays."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import Discriminator, Field, StringConstraints, Tag

from batchrun.server.protocol.requests.base import OpenModel, RequestModel
from batchrun.server.protocol.requests.threads import Detail, ImageAddress
from batchrun.server.protocol.requests.tools import FunctionName

__all__ = ["InputItem", "ItemReference", "KeptItem", "Text"]

ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]
Text = Annotated[str, StringConstraints(max_length=10_485_760)]


class InputText(RequestModel):
    type: Literal["input_text"]
    text: Text


class InputImage(RequestModel):
    type: Literal["input_image"]
    image_url: ImageAddress | None = None
    file_id: str | None = None
    detail: Detail | Literal["original"] | None = None


class InputFile(RequestModel):
    type: Literal["input_file"]
    file_id: str
    filename: str | None = None
    detail: Literal["auto", "low", "high"] | None = None


class OutputText(RequestModel):
    type: Literal["output_text"]
    text: Text
    annotations: list[Any] = Field(default_factory=list)
    logprobs: list[Any] | None = None


class Refusal(RequestModel):
    type: Literal["refusal"]
    refusal: str


Part: TypeAlias = Annotated[InputText | InputImage | InputFile | OutputText | Refusal, Field(discriminator="type")]


class MessageItem(RequestModel):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | list[Part]
    id: str | None = None
    status: ItemStatus | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallItem(RequestModel):
    type: Literal["function_call"]
    call_id: str
    name: FunctionName
    arguments: str
    id: str | None = None
    status: ItemStatus | None = None
    namespace: str | None = None
    caller: Any = None
    is_async: Annotated[bool | None, Field(alias="async")] = None


OutputPart: TypeAlias = Annotated[InputText | InputImage | InputFile, Field(discriminator="type")]


class FunctionCallOutputItem(RequestModel):
    type: Literal["function_call_output"]
    call_id: str
    output: Text | list[OutputPart]
    id: str | None = None
    status: ItemStatus | None = None
    name: str | None = None
    namespace: str | None = None
    caller: Any = None


class CustomCallItem(RequestModel):
    type: Literal["custom_tool_call"]
    call_id: str
    name: str
    input: str
    id: str | None = None
    status: ItemStatus | None = None
    namespace: str | None = None
    caller: Any = None
    is_async: Annotated[bool | None, Field(alias="async")] = None


class CustomCallOutputItem(RequestModel):
    type: Literal["custom_tool_call_output"]
    call_id: str
    output: Text | list[OutputPart]
    id: str | None = None
    status: ItemStatus | None = None
    caller: Any = None


class ItemReference(RequestModel):
    """An item that is stored already: of a response, or of a conversation."""

    type: Literal["item_reference"] | None = None
    id: str


KeptType: TypeAlias = Literal[
    "reasoning", "file_search_call", "code_interpreter_call", "web_search_call", "image_generation_call",
    "compaction", "compaction_trigger", "local_shell_call",
    "local_shell_call_output", "shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output",
    "mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "mcp_call", "tool_search_call",
    "tool_search_output", "additional_tools", "configuration_update", "program", "program_output",
]  # fmt: skip


class KeptItem(OpenModel):
    """An item that a model behind Chat Completions can't read. It is stored as it is, and given back.

    Calls of a computer are refused: without them the model could not continue.
    """

    type: KeptType
    id: str | None = None


_KEPT = frozenset(get_args(KeptType))
_KEPT_TAG = "', '".join(get_args(KeptType))
"""The messages about an unknown type quote the tags."""


def _item_type(value: Any) -> Any:
    if not isinstance(value, dict):
        return getattr(value, "type", "message")
    kind = value.get("type")
    if kind is None:
        return "message" if "role" in value or "id" not in value else "item_reference"
    return _KEPT_TAG if kind in _KEPT else kind


InputItem: TypeAlias = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionCallOutputItem, Tag("function_call_output")]
    | Annotated[CustomCallItem, Tag("custom_tool_call")]
    | Annotated[CustomCallOutputItem, Tag("custom_tool_call_output")]
    | Annotated[ItemReference, Tag("item_reference")]
    | Annotated[KeptItem, Tag(_KEPT_TAG)],
    Discriminator(_item_type),
]
