"""`aurora serve`: search, questions and embeddings over HTTP and in a browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aurora_vl.cli.options import Quiet, Verbose
from aurora_vl.errors import UserError

if TYPE_CHECKING:
    from aurora_vl.gallery.gallery import Gallery


def serve(
    gallery: Annotated[
        str | None,
        typer.Option(
            "--gallery",
            metavar="URI",
            show_default=False,
            help="What aurora index wrote; else a small generated one.",
        ),
    ] = None,
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
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar="NAME=DIR",
            show_default=False,
            help="What train wrote, and the name it is asked for by; any number, the first is the "
            "usual one.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="To listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 for a free one.")
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            show_default=False,
            help="Bearer tokens that are let in, one a line; needed for any other host.",
        ),
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Serve search, questions and embeddings over HTTP, and a page to search with."""
    try:
        import fastapi  # noqa: F401
    except ImportError:
        raise UserError("serving needs FastAPI: install aurora-vl[serve]") from None
    from aurora_vl.gallery.gallery import Gallery
    from aurora_vl.serving.access import LOOPBACK, Tokens
    from aurora_vl.serving.app import create_app
    from aurora_vl.serving.engine import load_engine
    from aurora_vl.serving.sample import sample_gallery
    from aurora_vl.serving.server import listen
    from aurora_vl.serving.server import serve as run

    if token_file is None and host not in LOOPBACK:
        raise UserError(
            f"--host {host} lets others reach this server; give --token-file FILE with the tokens "
            "that are let in, or listen on 127.0.0.1"
        )
    tokens = None if token_file is None else Tokens.read(token_file)
    named = dict(_named(given) for given in adapter or [])
    if len(named) < len(adapter or []):
        raise UserError("two --adapter have one name; give each another NAME=DIR")
    with listen(host, port) as bound:
        opened = None if gallery is None else Gallery.open(gallery, create=False)
        if opened is not None and backbone is None and not named:
            backbone, named = _indexed_with(opened)
        engine = load_engine(backbone, named, opened)
        if opened is None and engine.retriever is not None:
            engine.gallery = sample_gallery(_cache(), engine.retriever)
        try:
            run(create_app(engine, tokens=tokens), bound)
        finally:
            if engine.gallery is not None:
                engine.gallery.close()


def _named(given: str) -> tuple[str, Path]:
    name, separator, folder = given.partition("=")
    if not separator or not name or not folder:
        raise UserError(f"--adapter {given} names no folder; write NAME=DIR")
    return name, Path(folder).expanduser()


def _indexed_with(gallery: Gallery) -> tuple[str | None, dict[str, Path]]:
    """The only backbone of a gallery and its adapters, named after their runs.

    Raises:
        UserError: there are several backbones.
    """
    backbones = {collection.backbone for collection in gallery.collections}
    if len(backbones) > 1:
        raise UserError(
            f"{gallery.uri} was indexed with {' and '.join(sorted(backbones))}; choose one by "
            "--backbone or --adapter"
        )
    folders = [Path(each.adapter) for each in gallery.collections if each.adapter is not None]
    named = {(path.parent if path.name == "adapter" else path).name: path for path in folders}
    return next(iter(backbones), None), named


def _cache() -> Path:
    """Where the generated gallery is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "aurora-vl"
