"""Requests as clients write them: OpenAI's, vLLM's and Infinity's, Cohere's and Jina's, and ours.

Keys that are not named here are left unread, as those APIs do, where they change no result.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from aurora_vl.data.records import MediaKind


class Address(BaseModel):
    """Where a part's medium is: a data URI."""

    url: str


class Part(BaseModel):
    """A part of a message."""

    type: Literal["text", "image_url", "video_url"]
    text: str | None = None
    image_url: Address | None = None
    video_url: Address | None = None

    @property
    def uri(self) -> str | None:
        """Of the medium, if it is one."""
        address = {"image_url": self.image_url, "video_url": self.video_url}.get(self.type)
        return None if address is None else address.url


class Message(BaseModel):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None

    @property
    def parts(self) -> list[Part]:
        """The content as parts."""
        if isinstance(self.content, str):
            return [Part(type="text", text=self.content)]
        return self.content or []

    @property
    def text(self) -> str:
        """All text of it."""
        return "\n".join(part.text or "" for part in self.parts if part.type == "text").strip()

    @property
    def uris(self) -> list[str]:
        """The data URIs of its media."""
        return [part.uri for part in self.parts if part.uri is not None]


class EmbeddingRequest(BaseModel):
    """POST /v1/embeddings.

    Attributes:
        model: the backbone or an adapter; None for the usual one.
        input: texts, or data URIs with another modality.
        messages: vLLM's way of giving a picture.
        modality: what `input` holds.
        encoding_format: lists of numbers, or little-endian float32 in base64.
        dimensions: refused.
    """

    model: str | None = None
    input: str | list[str] | None = None
    messages: list[Message] | None = None
    modality: Literal["text", "image", "video"] = "text"
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class Document(BaseModel):
    """A document of a re-ranking: a text or a medium as a data URI."""

    text: str | None = None
    image: str | None = None
    video: str | None = None


class RerankRequest(BaseModel):
    """POST /v1/rerank.

    Attributes:
        model: the backbone or an adapter; None for the usual one.
        query: a text or a picture.
        documents: texts, pictures, videos.
        top_n: how many results; None for all.
        return_documents: whether the results hold texts of the documents.
    """

    model: str | None = None
    query: str | Document
    documents: list[str | Document]
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool = False


class ChatRequest(BaseModel):
    """POST /v1/chat/completions.

    Attributes:
        model: the backbone or an adapter; None for the usual one.
        messages: the last one of the user asks about the last picture or video.
        answers: ours: to choose from; an empty list for an answer in the model's own words.
        stream, n: refused, if they ask for more than one whole answer.
    """

    model: str | None = None
    messages: list[Message]
    answers: list[str] | None = None
    stream: bool | None = None
    n: int | None = None


class SearchRequest(BaseModel):
    """POST /v1/search.

    Attributes:
        model: the backbone or an adapter; None for the usual one.
        query: in words.
        image: a picture like those that are looked for, as a data URI.
        weight: of the picture where there are both, from 0 to 1.
        without: in words, what is not wanted.
        top: hits at most.
        rerank: how many of the first are put in order by the matching head.
        fold: whether to leave out what looks the same as a better hit.
        kind: pictures or videos only.
        folder: items below it only.
        since, before: bounds of the files' time.
    """

    model: str | None = None
    query: str | None = None
    image: str | None = None
    weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    without: str | None = None
    top: Annotated[int, Field(ge=1)] = 20
    rerank: Annotated[int, Field(ge=0)] = 0
    fold: bool = False
    kind: MediaKind | None = None
    folder: str | None = None
    since: datetime | None = None
    before: datetime | None = None
