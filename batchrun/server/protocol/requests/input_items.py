"""The items of Responses and Conversations that a client may send: what a model reads, and history that it replays."""

from __future__ import annotations

import binascii
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, model_validator

from batchrun.server.protocol.requests.base import OpenModel, RequestModel
from batchrun.server.protocol.requests.threads import Detail, ImageAddress
from batchrun.server.protocol.requests.tools import FunctionName

__all__ = ["InputItem", "ItemReference", "KeptItem", "Text", "file_content"]

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

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.file_id is None and self.image_url is None:
            raise ValueError("An 'input_image' needs 'image_url' or 'file_id'.")
        return self


def _readable(data: str) -> str:
    try:
        file_content(data)
    except binascii.Error:
        raise ValueError("Invalid 'file_data': expected base64, or a data URL with base64.") from None
    return data


def _refused(_: str) -> str:
    raise ValueError("'file_url' is not supported: this server fetches nothing. Send 'file_data' or 'file_id'.")


class InputFile(RequestModel):
    """A file: an uploaded one, or its content."""

    type: Literal["input_file"]
    file_id: str | None = None
    file_data: Annotated[str, AfterValidator(_readable)] | None = None
    file_url: Annotated[str, AfterValidator(_refused)] | None = None
    filename: str | None = None
    detail: Literal["auto", "low", "high"] | None = None

    @model_validator(mode="after")
    def _has_one_content(self) -> Self:
        if (self.file_id is None) == (self.file_data is None):
            raise ValueError("An 'input_file' needs 'file_id' or 'file_data', and not both.")
        return self


def file_content(data: str) -> tuple[str, bytes]:
    """Return the media type and the bytes of a file that is given as base64 or as a data URL; "" for an unknown type.

    Raises:
        binascii.Error: it is not base64.
    """
    head, separator, encoded = data.partition(",")
    if not separator:
        return "", binascii.a2b_base64(data, strict_mode=True)
    if not head.startswith("data:") or not head.endswith(";base64"):
        raise binascii.Error(head)
    return head.removeprefix("data:").partition(";")[0], binascii.a2b_base64(encoded, strict_mode=True)


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
