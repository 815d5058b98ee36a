"""POST /v1/embeddings: OpenAI's, with pictures as vLLM and Infinity take them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter

from aurora_vl.serving.engine import MediaRow, TextRow, Vector
from aurora_vl.serving.errors import ApiError
from aurora_vl.serving.schemas import EmbeddingRequest, Message
from aurora_vl.serving.service import Service, Shared

router = APIRouter()


@router.post("/v1/embeddings")
async def embeddings(asked: EmbeddingRequest, service: Shared) -> dict[str, Any]:
    """Features of texts, pictures or videos, of unit length."""
    if asked.dimensions is not None:
        raise ApiError(
            400,
            "embeddings of this model cannot be shortened; leave dimensions out.",
            param="dimensions",
        )
    adapter = service.engine.adapter(asked.model, "retrieval")
    texts, uris = _input(asked)
    tokens = 0
    if texts:
        service.check_texts(texts, "input")
        found = await service.batcher.run(
            service.engine.embed_texts, [TextRow(text, adapter) for text in texts]
        )
        vectors, tokens = [vector for vector, _ in found], sum(count for _, count in found)
    else:
        kind = None if asked.modality == "text" else asked.modality
        vectors = await embed_media(service, uris, "input", adapter, kind)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, asked)}
        for index, vector in enumerate(vectors)
    ]
    model = asked.model or service.engine.usual("retrieval")
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


async def embed_media(
    service: Service, uris: Sequence[str], param: str, adapter: str | None, kind: Any = None
) -> list[Vector]:
    """Features of media, in order."""
    items = await service.media(uris, param, kind)
    rows = [MediaRow(item, adapter) for item in items]
    return await service.batcher.run(service.engine.embed_media, rows)


def _input(asked: EmbeddingRequest) -> tuple[list[str], list[str]]:
    """The texts, or else the data URIs of media."""
    if (asked.input is None) == (asked.messages is None):
        raise ApiError(400, "give either input or messages.", param="input")
    if asked.messages is not None:
        return _of_messages(asked.messages)
    given = [asked.input] if isinstance(asked.input, str) else list(asked.input or [])
    if not given:
        raise ApiError(400, "input is empty; give a text or a list of texts.", param="input")
    return (given, []) if asked.modality == "text" else ([], given)


def _of_messages(messages: Sequence[Message]) -> tuple[list[str], list[str]]:
    """vLLM's shape: one embedding of the whole conversation, here of its text or its medium."""
    texts = [message.text for message in messages if message.text]
    uris = [uri for message in messages for uri in message.uris]
    if len(texts) + len(uris) != 1:
        raise ApiError(
            400,
            "messages must hold one text, one picture or one video, which becomes one embedding.",
            param="messages",
        )
    return texts, uris


def _encoded(vector: Vector, asked: EmbeddingRequest) -> list[float] | str:
    if asked.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()
