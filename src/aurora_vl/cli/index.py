"""`aurora index`: a gallery brought up to date with a tree of pictures and videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aurora_vl.cli.options import AsJson, GalleryUri, Quiet, Verbose, seconds
from aurora_vl.reporting.terminal import show_json

if TYPE_CHECKING:
    from aurora_vl.gallery.indexing import IndexReport


def index(
    media: Annotated[
        Path,
        typer.Argument(
            metavar="MEDIA_DIR",
            show_default=False,
            help="A folder of pictures and videos, or a .jsonl file that lists some.",
        ),
    ],
    gallery: GalleryUri,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            metavar="X",
            show_default=False,
            help="mini, a hub id, a folder or a .pth file; else the adapter's own, else mini.",
        ),
    ] = None,
    adapter: Annotated[
        list[Path] | None,
        typer.Option(
            "--adapter",
            metavar="DIR",
            show_default=False,
            help="What train wrote; several may be given, to search with any of them.",
        ),
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Take out files that are gone.")] = False,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            metavar="N",
            show_default=False,
            help="Taken of a video or stretch; set when the gallery is made.",
        ),
    ] = None,
    segment: Annotated[
        float | None,
        typer.Option(
            "--segment",
            metavar="SECONDS",
            parser=seconds,
            show_default=False,
            help="Cut videos into stretches, such as 10s; set when the gallery is made.",
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option("--workers", metavar="N", min=0, help="Processes that decode; 0 for threads."),
    ] = 0,
    json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Embed pictures and videos into a gallery; unchanged files are skipped."""
    from aurora_vl.gallery.gallery import Gallery
    from aurora_vl.gallery.scanning import scan
    from aurora_vl.inference.retriever import Retriever

    scan(media)  # a wrong path is told before a model is loaded and a gallery made
    named = {f"adapter{number}": folder for number, folder in enumerate(adapter or [], start=1)}
    retriever = Retriever.load(backbone, adapters=named)
    with Gallery.open(gallery, frames=frames, segment=segment) as opened:
        report = opened.add_folder(media, retriever, prune=prune, workers=workers)
    if json:
        show_json(report.to_json())
    else:
        _show(report, gallery)
    if report.errors:
        raise typer.Exit(1)


def _show(report: IndexReport, gallery: str) -> None:
    for error in report.errors:
        typer.echo(f"aurora: {error}", err=True)
    counts = {
        "added": report.added,
        "changed": report.changed,
        "renamed": report.renamed,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "damaged": len(report.errors),
        "links left out": report.links,
        "gone, --prune takes them out": report.vanished,
    }
    files = "; ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    rate = report.items / report.seconds if report.seconds else 0.0
    print(f"{gallery}: {files or 'nothing to do'}")
    print(f"{report.items:,} items embedded in {report.seconds:.1f} s, {rate:,.0f} a second")
