"""GET /v1/models, /healthz and /metrics: what there is, and how it is doing."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool

from aurora_vl.serving.errors import ApiError
from aurora_vl.serving.metrics import CONTENT_TYPE
from aurora_vl.serving.service import Service, Shared

router = APIRouter()
_STARTED = int(time.time())


@router.get("/v1/models")
async def models(service: Shared) -> dict[str, Any]:
    """The backbone and its adapters."""
    return {"object": "list", "data": await run_in_threadpool(_models, service)}


@router.get("/v1/models/{name:path}")
async def model(name: str, service: Shared) -> dict[str, Any]:
    """One of them."""
    if name not in service.engine.models:
        raise ApiError(404, "there is no such model.", code="model_not_found")
    return await run_in_threadpool(_model, service, name)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """That the server answers."""
    return {"status": "ok"}


@router.get("/metrics")
async def metrics(service: Shared) -> Response:
    """Counters in Prometheus' format."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _models(service: Service) -> list[dict[str, Any]]:
    return [_model(service, name) for name in service.engine.models]


def _model(service: Service, name: str) -> dict[str, Any]:
    engine = service.engine
    abilities = engine.models[name]
    matcher = engine.retriever is not None and engine.retriever.has_matcher
    return {
        "id": name,
        "object": "model",
        "created": _STARTED,
        "owned_by": "aurora",
        "parent": None if name == engine.backbone else engine.backbone,
        "abilities": abilities,
        "searchable": engine.searchable(name),
        "rerank": matcher and "retrieval" in abilities,
    }
