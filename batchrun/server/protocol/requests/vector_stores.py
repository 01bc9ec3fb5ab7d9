"""The bodies of requests for vector stores, their files and searches."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AllowInfNan, Field, StringConstraints, model_validator

from batchrun.server.protocol.requests.base import Metadata, MetadataUpdate, Probability, RequestModel
from batchrun.server.protocol.requests.tools import ChunkingStrategy

__all__ = [
    "AddVectorStoreFile",
    "AddVectorStoreFiles",
    "CreateVectorStore",
    "Filter",
    "SearchVectorStore",
    "UpdateAttributes",
    "UpdateVectorStore",
]

StoreName = Annotated[str, StringConstraints(max_length=256)]
AttributeValue: TypeAlias = (
    Annotated[str, StringConstraints(max_length=512)] | bool | Annotated[float, AllowInfNan(False)]
)
Attributes = Annotated[dict[Annotated[str, StringConstraints(max_length=64)], AttributeValue], Field(max_length=16)]


class ExpiresAfter(RequestModel):
    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


class CreateVectorStore(RequestModel):
    name: StoreName | None = None
    description: str | None = None
    file_ids: Annotated[list[str], Field(max_length=500)] | None = None
    chunking_strategy: ChunkingStrategy | None = None
    expires_after: ExpiresAfter | None = None
    metadata: Metadata | None = None


class UpdateVectorStore(RequestModel):
    name: StoreName | None = None
    expires_after: ExpiresAfter | None = None
    metadata: MetadataUpdate | None = None


class AddVectorStoreFile(RequestModel):
    file_id: str
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class AddVectorStoreFiles(RequestModel):
    file_ids: Annotated[list[str], Field(max_length=2000)] | None = None
    files: Annotated[list[AddVectorStoreFile], Field(max_length=2000)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> AddVectorStoreFiles:
        if bool(self.file_ids) == bool(self.files):
            raise ValueError("Give either 'file_ids' or 'files', with at least one file.")
        return self


class UpdateAttributes(RequestModel):
    attributes: Attributes | None


class ComparisonFilter(RequestModel):
    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: str
    value: str | float | bool | list[str | float]


class Compound(RequestModel):
    type: Literal["and", "or"]
    filters: Annotated[list[Any], Field(min_length=1, max_length=64)]


Filter: TypeAlias = Annotated[ComparisonFilter | Compound, Field(discriminator="type")]


class SearchRanking(RequestModel):
    ranker: Literal["none", "auto", "default-2024-11-15", "default_2024_08_21"] | None = None
    score_threshold: Probability = 0.0


class SearchVectorStore(RequestModel):
    query: Annotated[str, StringConstraints(min_length=1)] | Annotated[list[str], Field(min_length=1, max_length=16)]
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    filters: Filter | None = None
    ranking_options: SearchRanking | None = None
    rewrite_query: bool = False
