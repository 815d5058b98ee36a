"""POST /v1/rerank: Cohere's and Jina's, with pictures and videos among the documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter

from aurora_vl.inference.media import MediaItem
from aurora_vl.serving.engine import MatchRow, MediaRow, TextRow, Vector
from aurora_vl.serving.errors import ApiError
from aurora_vl.serving.schemas import Document, RerankRequest
from aurora_vl.serving.service import Service, Shared

router = APIRouter()


@router.post("/v1/rerank")
async def rerank(asked: RerankRequest, service: Shared) -> dict[str, Any]:
    """Documents in the order of their relevance to the query.

    Where the query is a text, all documents are media and the backbone has a matching head, scores
    are the head's; else they are cosines.
    """
    adapter = service.engine.adapter(asked.model, "retrieval")
    (query,) = await _contents(service, [asked.query], "query")
    documents = await _contents(service, asked.documents, "documents")
    retriever = service.engine.retriever
    items = [document for document in documents if isinstance(document, MediaItem)]
    matched = retriever is not None and retriever.has_matcher and len(items) == len(documents)
    if matched and isinstance(query, str):
        row = MatchRow(query, items, adapter)
        (scores,) = await service.batcher.run(service.engine.match, [row])
    else:
        vectors = await _vectors(service, [query, *documents], adapter)
        scores = (np.stack(vectors[1:]) @ vectors[0]).tolist()
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[: asked.top_n]
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": scores[index]} for index in order
    ]
    if asked.return_documents:
        for result in results:
            document = documents[result["index"]]
            result["document"] = {"text": document} if isinstance(document, str) else {}
    model = asked.model or service.engine.usual("retrieval")
    return {"object": "list", "model": model, "results": results}


async def _contents(
    service: Service, given: Sequence[str | Document], param: str
) -> list[str | MediaItem]:
    """Texts as they are and media decoded, in order."""
    documents = [Document(text=each) if isinstance(each, str) else each for each in given]
    if not documents:
        raise ApiError(400, f"{param} is empty; give at least one.", param=param)
    for document in documents:
        if sum(bool(each) for each in (document.text, document.image, document.video)) != 1:
            raise ApiError(
                400, f"each of {param} is one of text, image and video, not empty.", param=param
            )
    texts = [document.text for document in documents if document.text]
    uris = [uri for document in documents if (uri := document.image or document.video)]
    if texts:
        service.check_texts(texts, param)
    media = iter(await service.media(uris, param) if uris else [])
    return [document.text or next(media) for document in documents]


async def _vectors(
    service: Service, contents: Sequence[str | MediaItem], adapter: str | None
) -> list[Vector]:
    """Features of texts and media, in order."""
    texts = [TextRow(each, adapter) for each in contents if isinstance(each, str)]
    media = [MediaRow(each, adapter) for each in contents if isinstance(each, MediaItem)]
    told = await service.batcher.run(service.engine.embed_texts, texts) if texts else []
    seen = await service.batcher.run(service.engine.embed_media, media) if media else []
    of_texts, of_media = iter([vector for vector, _ in told]), iter(seen)
    return [next(of_texts) if isinstance(each, str) else next(of_media) for each in contents]
