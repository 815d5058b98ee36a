"""POST /v1/search and GET /v1/media/{id}: the gallery."""

from __future__ import annotations

import mimetypes
import os
import time
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from aurora_vl.gallery.gallery import Gallery
from aurora_vl.gallery.items import Filter
from aurora_vl.gallery.searching import Query
from aurora_vl.serving.engine import SearchRow
from aurora_vl.serving.errors import ApiError
from aurora_vl.serving.schemas import SearchRequest
from aurora_vl.serving.service import Service, Shared

router = APIRouter()
_NANOSECONDS = 1_000_000_000


@router.post("/v1/search")
async def search(asked: SearchRequest, service: Shared) -> dict[str, Any]:
    """Items of the gallery that show what is asked for, best first."""
    began = time.perf_counter()
    _gallery(service)
    adapter = service.engine.adapter(asked.model, "retrieval")
    texts = [text for text in (asked.query, asked.without) if text is not None]
    if texts:
        service.check_texts(texts, "query")
    for name, value, most in (
        ("top", asked.top, service.limits.top),
        ("rerank", asked.rerank, service.limits.rerank),
    ):
        if value > most:
            raise ApiError(400, f"{name} is {value} where at most {most} is taken.", param=name)
    picture: Any = None
    if asked.image is not None:
        (item,) = await service.media([asked.image], "image", "image")
        picture = item.source
    query = Query(asked.query, picture, asked.weight, asked.without)
    where = Filter(asked.folder, asked.kind, _moment(asked.since), _moment(asked.before))
    row = SearchRow(query, adapter, asked.top, asked.rerank, asked.fold, where)
    (hits,) = await service.batcher.run(service.engine.search, [row])
    return {
        "object": "list",
        "model": asked.model or service.engine.usual("retrieval"),
        "results": [
            {**hit.to_json(), "media": f"/v1/media/{hit.item.key}", "type": _type(hit.item.path)}
            for hit in hits
        ],
        "took_ms": round((time.perf_counter() - began) * 1000, 1),
    }


@router.get("/v1/media/{key}")
async def media(key: str, service: Shared, thumbnail: bool = False) -> Response:
    """The file of an item of the gallery, or a small picture of it."""
    gallery = _gallery(service)
    item = await run_in_threadpool(gallery.item, key)
    if item is None:
        raise ApiError(404, "the gallery holds no such item.")
    headers = {"Cache-Control": "private, max-age=3600"}
    if thumbnail:
        jpeg = await run_in_threadpool(gallery.thumbnail, item)
        if jpeg is None:
            raise ApiError(404, "the gallery holds no such item.")
        return Response(jpeg, media_type="image/jpeg", headers=headers)
    # A link that stands in the file's place since it was indexed may lead anywhere.
    if os.path.islink(item.path) or not os.path.isfile(item.path):
        raise ApiError(404, "the item's file is gone; the gallery is to be indexed again.")
    return FileResponse(item.path, media_type=_type(item.path), headers=headers)


def _gallery(service: Service) -> Gallery:
    if service.engine.gallery is None:
        raise ApiError(404, "this server has no gallery to search.")
    return service.engine.gallery


def _type(path: str) -> str:
    found, _ = mimetypes.guess_type(path)
    known = found is not None and found.startswith(("image/", "video/"))
    return found if known and found is not None else "application/octet-stream"


def _moment(given: datetime | None) -> int | None:
    return None if given is None else int(given.timestamp() * _NANOSECONDS)
