"""The FastAPI application: endpoints, page, access, errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.staticfiles import StaticFiles

from aurora_vl._version import __version__
from aurora_vl.serving import errors
from aurora_vl.serving.access import Access, Tokens
from aurora_vl.serving.engine import Engine
from aurora_vl.serving.limits import Limits
from aurora_vl.serving.routes import chat, embeddings, models, rerank, search
from aurora_vl.serving.service import Service

PAGE = Path(__file__).parent / "page"


def create_app(
    engine: Engine, limits: Limits | None = None, tokens: Tokens | None = None
) -> FastAPI:
    """An application that serves an engine.

    Args:
        engine: the models and the gallery.
        limits: of a request; None for the defaults.
        tokens: that are let in; None lets everybody in who reaches the server by 127.0.0.1.
    """
    limits = limits or Limits()
    service = Service(engine, limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.close)

    app = FastAPI(
        title="Aurora", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.state.service = service
    errors.install(app)
    for group in (embeddings, rerank, chat, search, models):
        app.include_router(group.router)
    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    app.add_middleware(Access, limits=limits, metrics=service.metrics, tokens=tokens or Tokens())
    return app
