"""`aurora search`: pictures and videos of a gallery, found by words or by a picture."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aurora_vl.cli.options import AsJson, GalleryUri, Quiet, Verbose
from aurora_vl.errors import UserError
from aurora_vl.reporting.terminal import show_json, show_table

if TYPE_CHECKING:
    from aurora_vl.gallery.gallery import Gallery
    from aurora_vl.gallery.searching import Query
    from aurora_vl.inference.retriever import Retriever

_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
_NANOSECONDS = 1_000_000_000


def search(
    query: Annotated[
        str,
        typer.Argument(
            metavar="QUERY", show_default=False, help="Words, or the path of a picture or video."
        ),
    ],
    gallery: GalleryUri,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            metavar="X",
            show_default=False,
            help="As for index; else the adapter's own, else what the gallery was indexed with.",
        ),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option("--adapter", metavar="DIR", show_default=False, help="What train wrote."),
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="Hits at most.")] = 10,
    rerank: Annotated[
        int,
        typer.Option(
            "--rerank",
            metavar="N",
            min=0,
            help="Put the first N in order by the backbone's matching head; 0 for none.",
        ),
    ] = 0,
    like: Annotated[
        Path | None,
        typer.Option(
            "--like", metavar="FILE", show_default=False, help="A picture that counts with QUERY."
        ),
    ] = None,
    weight: Annotated[
        float,
        typer.Option("--weight", metavar="W", min=0, max=1, help="Of --like; QUERY has the rest."),
    ] = 0.5,
    without: Annotated[
        str | None,
        typer.Option("--not", metavar="WORDS", show_default=False, help="What is not wanted."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", show_default=False, help="Only what is below it."),
    ] = None,
    kind: Annotated[
        Literal["image", "video"] | None,
        typer.Option("--kind", show_default=False, help="Only pictures or videos."),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option("--since", formats=_DATES, show_default=False, help="Files changed since."),
    ] = None,
    before: Annotated[
        datetime | None,
        typer.Option("--before", formats=_DATES, show_default=False, help="Files changed before."),
    ] = None,
    fold: Annotated[
        bool, typer.Option("--fold", help="Leave out what looks the same as a better hit.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", show_default=False, help="Write a page with small pictures."
        ),
    ] = None,
    json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Find pictures and videos of a gallery."""
    from aurora_vl.gallery.gallery import Gallery
    from aurora_vl.gallery.items import Filter
    from aurora_vl.gallery.page import search_page
    from aurora_vl.utils.atomic import write_text

    where = Filter(
        None if folder is None else str(folder), kind, _nanoseconds(since), _nanoseconds(before)
    )
    with Gallery.open(gallery, create=False) as opened:
        hits = opened.search(
            _query(query, like, weight, without),
            _retriever(opened, backbone, adapter),
            top=top,
            rerank=rerank,
            fold=fold,
            where=where,
        )
        if html is not None:
            write_text(html, search_page(query, opened, hits))
    if json:
        show_json({"results": [hit.to_json() for hit in hits]})
    else:
        rows = [(hit.name, hit.item.kind, f"{hit.score:.3f}") for hit in hits]
        show_table("", ("path", "kind", "score"), rows)


def _query(query: str, like: Path | None, weight: float, without: str | None) -> Query:
    from aurora_vl.gallery.searching import Query

    if not os.path.isfile(query):
        return Query(query, like, weight, without)
    if like is not None:
        raise UserError(f"{query} is a file, as --like is; give words beside --like")
    return Query(picture=Path(query), without=without)


def _retriever(gallery: Gallery, backbone: str | None, adapter: Path | None) -> Retriever:
    """The one asked for; if none is, the only one that the gallery was indexed with."""
    from aurora_vl.inference.retriever import Retriever

    if backbone is not None or adapter is not None:
        return Retriever.load(backbone, adapter)
    backbones = {collection.backbone for collection in gallery.collections}
    adapters = {collection.adapter for collection in gallery.collections}
    return Retriever.load(
        backbones.pop() if len(backbones) == 1 else None,
        adapters.pop() if len(adapters) == 1 else None,
    )


def _nanoseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * _NANOSECONDS)
